"""The registry of data sets: what loads each, and which files it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True)
class Download:
    """Files of a data set that are fetched together.

    Attributes:
        files: What has to be there, under FOIR_DATA; patterns of `Path.glob`.
        source: The page or the command that gets them, in one sentence.
        rows: The rows of tables that need them; all where it is empty.
        repository: The data set repository on the Hub that holds them; then there are no `files`.
    """

    files: tuple[str, ...]
    source: str
    rows: str = ""
    repository: str = ""


@dataclass(frozen=True)
class Layout:
    """What a data set consists of.

    Attributes:
        downloads: Its files; none for one that is made here.
        sizes: Official numbers that no paper's table states: "gallery", "query images", "images", "boxes".
        note: What a reader of its numbers must know.
        has_masks: Whether its objects come with masks beside their boxes.
        count: Counts its images in the folder of its repository, where loading it would copy them.
    """

    downloads: tuple[Download, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    has_masks: bool = True
    count: Callable[[Path], dict[str, int]] | None = None


_Kind = TypeVar("_Kind")
LOADERS: dict[str, tuple[type[Any], Callable[[], Any]]] = {}  # kind and loader of each data set
LAYOUTS: dict[str, Layout] = {}


def register(
    name: str, kind: type[_Kind], *downloads: Download, **facts: Any
) -> Callable[[Callable[[], _Kind]], Callable[[], _Kind]]:
    """Register a function that loads a data set.

    Args:
        name: Registry name.
        kind: `Dataset`, `CaptionedDataset`, `ClassificationDataset` or `InstanceDataset`.
        downloads: The files that it needs.
        facts: Other attributes of `Layout`.
    """

    def add(loader: Callable[[], _Kind]) -> Callable[[], _Kind]:
        LOADERS[name] = kind, loader
        LAYOUTS[name] = Layout(downloads, **facts)
        return loader

    return add
