"""Pixel masks as run lengths: COCO's uncompressed counts, column by column, written as one line of numbers."""

from __future__ import annotations

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
