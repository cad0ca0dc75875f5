"""What an index holds: images, their known objects, the vectors of its spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from foir.arguments import check_text, checked
from foir.errors import BadPrompt

if TYPE_CHECKING:
    from foir.index.graph import RegionGraph

FIELDS = ("file", "caption", "source", "licence", "width", "height")  # fields of images that filters may name
MAX_SIDE = 2**31 - 1  # pixels, as the table stores it
BACKGROUND = 4096  # images


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
    def name(self) -> str:
        """A name to show: the caption, or the file where there is none."""
        return self.caption or self.file


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
        return self.subset(np.unique(np.linspace(0, len(self) - 1, BACKGROUND).astype(int)).tolist())

    def subset(self, rows: Sequence[int]) -> Regions:
        """Those of some images, in memory; at least one."""
        parts = [self.of_row(int(row)) for row in rows]
        starts = np.cumsum([0, *(len(vectors) for vectors, _ in parts)]).astype(np.int32)
        vectors, boxes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Regions(self.recipe, (vectors,), (boxes,), (starts,))


@checked
def checked_filters(filters: Mapping[str, str | int] | None) -> dict[str, str | int]:
    """Filters with values of the field's type: pixels for width and height, text for the rest.

    Raises:
        BadPrompt: Unknown field, or a width or height that is no number of pixels.
    """
    checked: dict[str, str | int] = {}
    for name, value in (filters or {}).items():
        if name not in FIELDS:
            raise BadPrompt(f"Results cannot be filtered by {name!r}: use one of {', '.join(FIELDS)}.")
        text = str(value)
        check_text(text)
        if name not in ("width", "height"):
            checked[name] = text
        elif text.isdecimal() and len(text) <= 10 and int(text) <= MAX_SIDE:
            checked[name] = int(text)
        else:
            raise BadPrompt(f"The {name} of a picture is a number of pixels, not {text[:40]!r}.")
    return checked
