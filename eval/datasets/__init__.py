"""Data sets by name. Each file turns one official layout into a `Dataset`; absent data is one sentence."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from foir import images
from foir.errors import Unavailable
from foir.prompts import Prompt

Load = Callable[[], Image.Image]  # gives an upright RGB picture


@dataclass(frozen=True, eq=False)
class Query:
    """One pointed object: which picture, how it is pointed at, and what it is."""

    picture: int
    prompt: Prompt
    category: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """A gallery and the pointed queries on it.

    Attributes:
        name: Registry name.
        gallery: Its pictures, each read when called.
        labels: bool [gallery, categories]: what each picture contains.
        queries: Pointed objects; `picture` is a row of `query_pictures`.
        query_pictures: The pictures of the queries.
        categories: Their names.
        leave_one_out: The query pictures are the gallery, and each is left out of its own results.
    """

    name: str
    gallery: tuple[Load, ...]
    labels: np.ndarray
    queries: tuple[Query, ...]
    query_pictures: tuple[Load, ...]
    categories: tuple[str, ...]
    leave_one_out: bool = False


_register: dict[str, Callable[[], Dataset]] = {}


def dataset(name: str) -> Callable[[Callable[[], Dataset]], Callable[[], Dataset]]:
    """Register a function that reads a data set."""

    def add(read: Callable[[], Dataset]) -> Callable[[], Dataset]:
        _register[name] = read
        return read

    return add


@cache
def datasets() -> dict[str, Callable[[], Dataset]]:
    """All registered data sets, by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return dict(_register)


def file(path: Path) -> Load:
    """A picture in a file."""
    return lambda: images.read(path).image


def root() -> Path:
    """The folder with real photos: FOIR_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("FOIR_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needed(folder: Path, what: str) -> Path:
    """The folder, or an error that says what to put there.

    Raises:
        Unavailable: It is absent.
    """
    if not folder.exists():
        raise Unavailable(f"{what} is not at {folder}: put it there, or set FOIR_DATA to the folder that holds it.")
    return folder
