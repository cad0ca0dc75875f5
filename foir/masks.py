"""Masks and boxes in COCO's formats: masks as uncompressed run lengths, column by column, in one line of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def encode(mask: np.ndarray) -> str:
    """Encode a mask, bool [H, W], as run lengths; the first run is unset: "5 2 9"."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return " ".join(map(str, runs if not flat[0] else [0, *runs]))


def decode(counts: str, size: tuple[int, int]) -> np.ndarray:
    """Decode the mask of an image of (width, height), bool [H, W].

    Raises:
        ValueError: The counts do not add up to the image.
    """
    pixels = size[0] * size[1]
    try:
        runs = np.array(counts.split(), np.int64)
    except OverflowError as error:
        raise ValueError("a run length beyond any image") from error
    if ((runs < 0) | (runs > pixels)).any() or runs.sum() != pixels:
        raise ValueError(f"the run lengths do not fill {size[0]} x {size[1]} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((size[1], size[0]), order="F")


def as_corners(boxes: Sequence[Sequence[float]]) -> list[tuple[float, float, float, float]]:
    """Boxes as (x0, y0, x1, y1).

    They are returned unchanged if all of them but one in a hundred are valid in this form; otherwise each is read as
    (x, y, width, height), COCO's form.
    """
    odd = sum(not (x0 <= x1 and y0 <= y1) for x0, y0, x1, y1 in boxes)
    if 100 * odd <= len(boxes):
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes]
    return [(x, y, x + width, y + height) for x, y, width, height in boxes]
