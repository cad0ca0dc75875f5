"""What an index holds: pictures, known objects, the vectors of its spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foir.errors import BadPrompt

FIELDS = ("file", "caption", "source", "licence", "width", "height")  # of pictures, that results can be narrowed to
OBJECTS = "objects"  # the space whose vectors stand for all objects of a picture


@dataclass(frozen=True)
class Item:
    """One picture of an index.

    Attributes:
        id: Never changes, and is never given to another picture.
        file: Relative to the indexed folder.
        width: Of the upright picture, in pixels.
        height: The same.
        caption: What is said of it.
        source: Where it comes from.
        licence: Under which it may be used.
        thumb: Digest of its thumbnail.
        bytes: Size of the file when it was read; None where no folder is remembered.
        modified: Its time of change then, in nanoseconds.
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

    @property
    def name(self) -> str:
        """What to call it: its caption, or its file where it has none."""
        return self.caption or self.file


@dataclass(frozen=True)
class Object:
    """A known object: `item` is a picture's id, `box` (x0, y0, x1, y1) in its pixels, `mask` run lengths or None."""

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
        probe: The encoder's `probe` feature when the index was made, float32 [dim].
        shards: Unit vectors, float16 or float32 [n, dim] each, memory-mapped, in item order.
        z: CLS head outputs per shard, [n, h, d_k]; empty without a head cache.
        residual: CLS residuals per shard, [n, d]; empty without a head cache.
        way: How a vector stands for its picture, where it is not the picture's plain feature.
    """

    encoder: str
    revision: str
    reference_feature: np.ndarray
    shards: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    residual: tuple[np.ndarray, ...]
    recipe: str = ""


def checked_filters(only: Mapping[str, str | int] | None) -> dict[str, str | int]:
    """Fields and what they must be, checked.

    Raises:
        BadPrompt: A field is none, or is a number that is none.
    """
    checked: dict[str, str | int] = {}
    for name, value in (only or {}).items():
        if name not in FIELDS:
            raise BadPrompt(f"Results cannot be narrowed to {name!r}: use one of {', '.join(FIELDS)}.")
        number = name in ("width", "height")
        if number and not str(value).isdecimal():
            raise BadPrompt(f"The {name} of a picture is a number of pixels, not {value!r}.")
        checked[name] = int(value) if number else str(value)
    return checked
