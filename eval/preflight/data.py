"""Which files of a data set are here: its layout, and its images by the annotations' own count. No photo is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from foir import hub
from foir.errors import FoirError, Unavailable

from .. import datasets
from ..datasets.registry import LOADERS, Download
from ..report import published
from .needs import Need
from .weights import HubState

FACTS = {  # what the papers call these numbers
    "query images": "n_query_images", "gallery": "n_db_images", "queries": "n_query", "scenes": "n_gallery",
    "images": "n_images",
}  # fmt: skip
_Pictures = Mapping[str, Iterable[Callable[[], Any]]]  # loaders of images, by their part in a data set


@dataclass(frozen=True)
class DataState:
    """What is here of a data set.

    Attributes:
        missing: What is not.
        counts: Images that are here, by "gallery", "query images", "images", "scenes" or "queries", and "boxes".
        official: The same numbers of the whole data set, where they are known.
        digest: Of its annotations; empty where they were not read.
        has_masks: Whether its objects come with masks, where that matters.
    """

    name: str
    missing: tuple[Need, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    official: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    has_masks: bool = True

    @property
    def sizes(self) -> Mapping[str, int]:
        """Its numbers: counted if it is here, else those of the whole data set."""
        return self.counts or self.official

    @property
    def is_part(self) -> bool:
        """Whether it is smaller, or larger, than the whole data set."""
        return any(count != self.official.get(name, count) for name, count in self.counts.items())

    def __str__(self) -> str:
        """One line."""
        if any(not need.rows for need in self.missing):
            return f"{self.name}: missing"
        counts = [
            f"{n:,} {k}" if self.official.get(k, n) == n else f"{n:,} of {self.official[k]:,} {k}"
            for k, n in self.counts.items()
        ]
        note = ": a part, its numbers are not the paper's" if self.is_part else ""
        return f"{self.name}: {', '.join(['ready', *counts])}{note}"


def data_state(name: str, hub_state: HubState) -> DataState:
    """Check one data set. It is loaded if all its files are here, so its annotations are read.

    Raises:
        Unavailable: There is no data set of this name.
    """
    if name not in datasets.layouts():
        raise Unavailable(f"There is no data set {name!r}; choose {', '.join(datasets.layouts())}.")
    layout = datasets.layouts()[name]
    facts = {part: published.fact(name, fact) for part, fact in FACTS.items()}
    official = {**layout.sizes, **{part: int(value) for part, value in facts.items() if value is not None}}
    needs = [need for download in layout.downloads for need in _missing(download, hub_state)]
    if any(not need.rows for need in needs) or not layout.downloads:
        return DataState(name, tuple(needs), official=official, has_masks=layout.has_masks)
    if layout.count is not None:
        folder = hub_state.cached_tables(layout.downloads[0].repository)
        return DataState(name, tuple(needs), {} if folder is None else layout.count(folder), official)
    sources = " ".join(dict.fromkeys(download.source for download in layout.downloads if not download.rows))
    try:
        data = LOADERS[name][1]()
    except Exception as error:  # whatever is wrong with a file, the other data sets are checked too
        known = isinstance(error, FoirError)
        reason = str(error) if known else f"its files cannot be read ({type(error).__name__}: {error})"
        needs.append(Need("data", f"{name}: {reason}", sources))
        return DataState(name, tuple(needs), official=official, has_masks=layout.has_masks)
    counts = {part: len(list(loaders)) for part, loaders in _pictures(data).items()}
    if hasattr(data, "query_images"):
        counts["boxes"] = len(data.queries)
    for part, loaders in _pictures(data).items():
        if absent := sum(not _is_there(load) for load in loaders):
            needs.append(Need("data", f"{name}: {absent:,} of {counts[part]:,} {part} have no file", sources))
    digest = getattr(data, "digest", "")
    return DataState(name, tuple(needs), counts, official, digest, layout.has_masks)


def _missing(download: Download, hub_state: HubState) -> list[Need]:
    """What is missing of one download."""
    if download.repository:
        state = hub_state.tables(download.repository)
        return [] if state in ("cached", "reachable") else [Need("data", download.repository, download.source)]
    folder = hub.data_folder()
    absent = [pattern for pattern in download.files if next(folder.glob(pattern), None) is None]
    return [Need("data", ", ".join(absent), download.source, download.rows)] if absent else []


def _pictures(data: Any) -> _Pictures:
    """The loaders of a data set's images, by their part in it."""
    if hasattr(data, "scenes"):
        return {"queries": [q.load for q in data.queries], "scenes": [scene.load for scene in data.scenes]}
    if hasattr(data, "gallery"):
        return {"query images": data.query_images, "gallery": data.gallery}
    return {"images": data.images}


def _is_there(load: Callable[[], Any]) -> bool:
    """Whether the file of a loader is in its folder; folders are listed once."""
    path = next((argument for argument in getattr(load, "args", ()) if isinstance(argument, Path)), None)
    return path is None or path.name in _names(path.parent)


@cache
def _names(folder: Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()  # noqa: PTH208 - names, not paths
