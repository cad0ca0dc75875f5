"""Masks and boxes as COCO writes them: masks as uncompressed run lengths, column by column, in one line of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def encode(mask: np.ndarray) -> str:
    """Run lengths of a bool [H, W], first run unset: "5 2 9"."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return " ".join(map(str, runs if not flat[0] else [0, *runs]))


def decode(counts: str, size: tuple[int, int]) -> np.ndarray:
    """The mask of a picture of (width, height), bool [H, W].

    Raises:
        ValueError: The counts do not add up to the picture.
    """
    runs = np.array(counts.split(), int)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"the run lengths do not fill {size[0]} x {size[1]} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((size[1], size[0]), order="F")


def as_corners(boxes: Sequence[Sequence[float]]) -> list[tuple[float, float, float, float]]:
    """Boxes as (x0, y0, x1, y1).

    They are taken for that already, unless one of them cannot be: then each is a corner and a size, as COCO has them.
    """
    if all(x0 <= x1 and y0 <= y1 for x0, y0, x1, y1 in boxes):
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes]
    return [(x, y, x + width, y + height) for x, y, width, height in boxes]
