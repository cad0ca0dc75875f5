"""Checks of official files: that images are there, annotations have their form, and boxes are on their images."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foir.errors import Unavailable
from foir.prompts import Box

from .base import ImageLoader, image_file

OUTSIDE, NO_MASK, NO_BOX = (  # oddities
    "boxes outside their images or not of numbers",
    "query images whose mask is empty",
    "images without a readable box",
)


def image_files(paths: Sequence[Path], sizes: Sequence[tuple[int, int]] | None = None) -> tuple[ImageLoader, ...]:
    """Loaders of image files that are all there; see `image_file`.

    Raises:
        Unavailable: One is missing.
    """
    listed = {
        folder: {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        for folder in {path.parent for path in paths}
    }
    missing = [path for path in paths if path.name not in listed[path.parent]]
    if missing:
        raise Unavailable(
            f"{len(missing)} of {len(paths)} images are missing, the first is {missing[0]}: put them there."
        )
    known: Sequence[tuple[int, int] | None] = sizes or [None] * len(paths)
    return tuple(image_file(path, size) for path, size in zip(paths, known, strict=True))


@contextmanager
def checked_annotations(path: Path) -> Iterator[None]:
    """Turn what Python raises on annotations of another form into one sentence.

    Raises:
        Unavailable: In place of every such error.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Unavailable(f"The annotations {path} are damaged: restore them ({error!r}).") from error


def visible_share(box: Box, size: tuple[int, int]) -> float:
    """The share of an image of (width, height) that a box covers; what lies outside does not count."""
    spans = (sorted((box[axis], box[axis + 2])) for axis in (0, 1))
    sides = (max(0.0, min(high, limit) - max(low, 0.0)) for (low, high), limit in zip(spans, size, strict=True))
    return math.prod(sides) / math.prod(size)


def is_outside(box: Box, size: tuple[float, float]) -> bool:
    """Whether a box has no part on an image of (width, height), or is not of finite numbers."""
    try:
        spans = (sorted((box[axis], box[axis + 2])) for axis in (0, 1))
        on_image = [(low >= 0 or high > 0) and low < limit for (low, high), limit in zip(spans, size, strict=True)]
        return not (all(on_image) and all(map(math.isfinite, box)))
    except TypeError:
        return True
