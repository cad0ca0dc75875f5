"""What an index holds: images, their known objects, the vectors of its spaces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from foir.videos import frame_key

if TYPE_CHECKING:
    from foir.index.graph import RegionGraph

MAX_SIDE = 2**31 - 1  # pixels, as the table stores it
BACKGROUND = 4096  # images
MAX_FACETS = 500
_HOST = re.compile(r"[\w.:\[\]-]+")


@dataclass(frozen=True)
class Item:
    """One image of an index.

    Attributes:
        id: Never changes, and is never given to another image.
        file: Relative to the indexed folder.
        width: Of the upright image, in pixels.
        height: Of the upright image, in pixels.
        caption: Text that came with the image.
        source: Where it comes from.
        licence: Licence of the image.
        thumb: SHA-256 of its thumbnail.
        bytes: Size of the file when it was read; None where the index keeps no folder.
        modified: Modification time of the file then, in nanoseconds.
        content: SHA-256 of the bytes of the file, in hexadecimal.
        taken: When the photo was taken by its own clock, in seconds since 1970-01-01 00:00 of that clock.
        taken_offset: How far that clock was ahead of UTC, in minutes.
        taken_from: Where the time comes from: "exif" or "file".
        camera: Make and model.
        lens: Model of the lens.
        rating: 0 to 5 stars.
        keywords: One a line.
        time: Of a frame in its video, in seconds.
    """

    id: int
    file: str
    width: int
    height: int
    caption: str | None
    source: str | None
    licence: str | None
    thumb: str
    bytes: int | None = None
    modified: int | None = None
    content: str | None = None
    taken: int | None = None
    taken_offset: int | None = None
    taken_from: str | None = None
    camera: str | None = None
    lens: str | None = None
    rating: int | None = None
    keywords: str | None = None
    time: float | None = None

    @property
    def key(self) -> str:
        """What names it in its folder: its file, and of a frame of a video also the time."""
        return frame_key(self.file, self.time)

    @property
    def link(self) -> str | None:
        """Where the photo server that it comes from shows it; see `index_build.sources.immich`."""
        scheme, _, host = (self.source or "").partition("://")
        if scheme not in ("immich", "immich+http") or not _HOST.fullmatch(host):
            return None
        return f"http{'s' if scheme == 'immich' else ''}://{host}/photos/{self.file.partition('/')[0]}"

    @property
    def name(self) -> str:
        """A name to show: the caption, or where there is none the file, and of a frame the time."""
        if self.caption or self.time is None:
            return self.caption or self.file
        return f"{self.file} at {self.clock}"

    @property
    def taken_at(self) -> datetime | None:
        """When it was taken, by its own clock."""
        return None if self.taken is None else datetime(1970, 1, 1) + timedelta(seconds=self.taken)

    @property
    def clock(self) -> str:
        """The time of a frame in minutes and seconds."""
        return f"{int(self.time or 0) // 60}:{int(self.time or 0) % 60:02}"


@dataclass(frozen=True)
class Object:
    """A known object: `item` is an image's id, `box` (x0, y0, x1, y1) in its pixels, `mask` run lengths or None."""

    item: int
    box: tuple[float, float, float, float]
    mask: str | None
    category: str
    instance: str | None
    name: str
    source: str | None


@dataclass(frozen=True)
class Facets:
    """What images can be narrowed to; see `foir.index.filters`.

    Attributes:
        folders: Folders of their files, with those that hold them.
        cameras: Cameras they were taken with.
        dated: Some of them say when they were taken.
    """

    folders: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    dated: bool = False

    @classmethod
    def of(cls, files: Iterable[str], cameras: Iterable[str], *, dated: bool) -> Facets:
        """Those of images; at most `MAX_FACETS` of each kind, the first by name."""
        folders = {folder.as_posix() for file in files for folder in PurePosixPath(file).parents} - {"."}
        return cls(tuple(sorted(folders)[:MAX_FACETS]), tuple(sorted(set(cameras))[:MAX_FACETS]), dated)


@dataclass(frozen=True, eq=False)
class Space:
    """The vectors of one encoder.

    Attributes:
        encoder: Registry name of the encoder.
        revision: Commit or digest of its weights.
        reference_feature: `Encoder.reference_feature` when the index was made, float32 [dim].
        shards: Unit vectors, float16 or float32 [n, dim] each, memory-mapped, in item order.
        z: CLS head outputs per shard, [n, h, d_k]; empty without a head cache.
        residual: CLS residuals per shard, [n, d]; empty without a head cache.
        dtype: In which the encoder computed; None where the index does not say.
    """

    encoder: str
    revision: str
    reference_feature: np.ndarray
    shards: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    residual: tuple[np.ndarray, ...]
    dtype: str | None = None

    def followed_by(self, other: Space | None) -> Space:
        """This space with the rows of another behind its own; itself where there is none."""
        if other is None:
            return self
        z, residual = (*self.z, *other.z), (*self.residual, *other.residual)
        return replace(self, shards=(*self.shards, *other.shards), z=z, residual=residual)


@dataclass(frozen=True, eq=False)
class Regions:
    """Vectors of parts of the images, in shards that match those of the `image` space.

    Attributes:
        recipe: How they were made.
        vectors: Unit vectors per shard, float16 [m, dim].
        boxes: Their boxes (x0, y0, x1, y1) per shard, uint16 [m, 4]: 65,535 is the image's width or height.
        starts: Where the regions of each image begin, int32 [n + 1]: those of image i are starts[i] to starts[i + 1].
        graph: Finds images near a vector without a scan, where there are very many.
    """

    recipe: str
    vectors: tuple[np.ndarray, ...]
    boxes: tuple[np.ndarray, ...]
    starts: tuple[np.ndarray, ...]
    graph: RegionGraph | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def _ends(self) -> np.ndarray:
        """The number of images up to the end of each shard."""
        return np.cumsum([len(starts) - 1 for starts in self.starts])

    def of_row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and boxes of the image in a row of the matrices."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        local = row - int(self._ends[shard]) + len(self.starts[shard]) - 1
        span = slice(int(self.starts[shard][local]), int(self.starts[shard][local + 1]))
        return self.vectors[shard][span], self.boxes[shard][span]

    @cached_property
    def background(self) -> Regions:
        """Those of `BACKGROUND` images, evenly over all, in memory: a standard for scores where not all are scored."""
        return self.subset(background_rows(len(self)))

    def followed_by(self, other: Regions | None) -> Regions:
        """These regions with the images of others behind their own; themselves where there are none."""
        if other is None:
            return self
        vectors, boxes = (*self.vectors, *other.vectors), (*self.boxes, *other.boxes)
        return Regions(self.recipe, vectors, boxes, (*self.starts, *other.starts))

    def subset(self, rows: Sequence[int]) -> Regions:
        """Those of some images, in memory; at least one."""
        parts = [self.of_row(int(row)) for row in rows]
        starts = np.cumsum([0, *(len(vectors) for vectors, _ in parts)]).astype(np.int32)
        vectors, boxes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Regions(self.recipe, (vectors,), (boxes,), (starts,))


def background_rows(count: int) -> list[int]:
    """Rows of up to `BACKGROUND` of so many images, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(count, BACKGROUND)).astype(int)).tolist()


@dataclass(frozen=True, eq=False)
class Background:
    """Images, evenly over an index, whose scores stand for those of all where a database holds the rows.

    Attributes:
        spaces: Every space of the index with their rows alone.
        regions: Theirs.
    """

    spaces: Mapping[str, Space]
    regions: Regions
