"""Windows: square areas of several sizes, evenly over the patch grid of an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Share of the grid that a window's side takes, and how many windows stand in a row and in a column.
Scales = Sequence[tuple[float, int]]
SCALES: Scales = ((3 / 16, 5), (5 / 16, 3), (1 / 2, 3), (1.0, 1))


def window_masks(grid: tuple[int, int], scales: Scales = SCALES) -> np.ndarray:
    """The patches of each window, bool [W, rows, cols]; the outermost windows touch the borders."""
    windows = []
    for share, count in scales:
        for rows in _spans(grid[0], share, count):
            for cols in _spans(grid[1], share, count):
                window = np.zeros(grid, bool)
                window[rows, cols] = True
                windows.append(window)
    return np.stack(windows)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """The box (x0, y0, x1, y1) around each mask [W, rows, cols], as fractions of the grid, float [W, 4]."""
    boxes = []
    for mask in masks:
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append((cols[0], rows[0], cols[-1] + 1, rows[-1] + 1))
    return np.array(boxes) / [masks.shape[2], masks.shape[1], masks.shape[2], masks.shape[1]]


def _spans(patches: int, share: float, count: int) -> list[slice]:
    side = max(1, round(share * patches))
    starts = np.linspace(0, patches - side, count).round().astype(int)
    return [slice(start, start + side) for start in sorted(set(starts.tolist()))]
