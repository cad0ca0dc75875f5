"""Views: parts of a picture that are encoded by themselves, so that small things appear larger."""

from __future__ import annotations

import numpy as np
from PIL import Image

TILE = 0.6  # of the picture's sides
TILES = tuple((x, y, x + TILE, y + TILE) for y in (0.0, 1 - TILE) for x in (0.0, 1 - TILE))
WHOLE = (0.0, 0.0, 1.0, 1.0)
CORNER = 65_535  # of a box that an index stores: the picture's width or height


def cut_tiles(image: Image.Image) -> list[Image.Image]:
    """The four overlapping tiles of a picture, at its own resolution."""
    width, height = image.size
    return [
        image.crop((round(x0 * width), round(y0 * height), max(round(x1 * width), 1), max(round(y1 * height), 1)))
        for x0, y0, x1, y1 in TILES
    ]


def place(boxes: np.ndarray, frame: tuple[float, float, float, float]) -> np.ndarray:
    """Boxes [n, 4] in fractions of a view as fractions of the picture; `frame` is the view's own box there."""
    x0, y0, x1, y1 = frame
    return boxes * [x1 - x0, y1 - y0, x1 - x0, y1 - y0] + [x0, y0, x0, y0]


def to_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes in fractions of a picture as an index stores them, uint16 [n, 4]."""
    return (np.clip(boxes, 0, 1) * CORNER).round().astype(np.uint16)


def to_pixels(corners: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A stored box (x0, y0, x1, y1) in pixels of a picture of (width, height)."""
    x0, y0, x1, y1 = (float(corner) / CORNER for corner in corners)
    return x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]
