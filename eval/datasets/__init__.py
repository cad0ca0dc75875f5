"""Data sets by name. Each module reads one official layout and registers its data sets; `load` reads one of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from foir.errors import Unavailable

from .registry import LAYOUTS, LOADERS, Layout

_Kind = TypeVar("_Kind")


def names(kind: type[Any]) -> tuple[str, ...]:
    """Names of all data sets of a kind."""
    _import_modules()
    return tuple(name for name, (registered, _) in LOADERS.items() if registered is kind)


def layouts() -> Mapping[str, Layout]:
    """What each data set consists of, by name."""
    _import_modules()
    return LAYOUTS


def load(name: str, kind: type[_Kind]) -> _Kind:
    """Load a data set.

    Args:
        name: Registry name.
        kind: The kind that the caller needs.

    Raises:
        Unavailable: There is no data set of this name and kind, or its files are missing.
    """
    known = names(kind)
    if name not in known:
        raise Unavailable(f"There is no data set {name!r} of the kind {kind.__name__}; choose {', '.join(known)}.")
    loader: Callable[[], _Kind] = LOADERS[name][1]
    return loader()


@cache
def _import_modules() -> None:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
