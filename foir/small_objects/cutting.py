"""Crops around the objects of a picture, at its own resolution (MaO spec, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foir.prompts import Box


@dataclass(frozen=True, eq=False)
class Thing:
    """An object of a picture: its box in pixels, and its mask, bool [H, W], where one is known."""

    box: Box
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Cut:
    """One object's crop.

    Attributes:
        image: The crop, not resized.
        mask: Where the object is, at the encoder's resolution, bool [side, side]; never empty.
        frame: What was cut out, (x0, y0, x1, y1) in pixels of the picture.
    """

    image: Image.Image
    mask: np.ndarray
    frame: tuple[int, int, int, int]


def frame(box: Box, size: tuple[int, int], least: int) -> tuple[int, int, int, int]:
    """The square around a box's centre, at least `least` pixels wide and at least as long as the box.

    It is moved, not padded, where it would leave the picture, and cut where the picture is smaller.
    """
    side = max(least, math.ceil(box[2] - box[0]), math.ceil(box[3] - box[1]))
    corners = []
    for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        extent = min(side, length)
        start = round((low + high - extent) / 2)
        corners.append((min(max(start, 0), length - extent), extent))
    (x, width), (y, height) = corners
    return x, y, x + width, y + height


def cut(image: Image.Image, things: Sequence[Thing], side: int) -> list[Cut]:
    """Crops of a picture's objects for an encoder of `side` pixels; one with no pixel in the picture is left out.

    A small object is so seen at the picture's own resolution with what is around it, a large one in its box.
    """
    made = []
    for thing in things:
        mask = _pixels(thing, image.size)
        if not mask.any():
            continue
        ys, xs = np.nonzero(mask)
        box = thing.box if thing.mask is None else (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        x0, y0, x1, y1 = frame(box, image.size, side)
        inside = mask[y0:y1, x0:x1]
        small = np.asarray(Image.fromarray(inside).resize((side, side), Image.Resampling.NEAREST), bool).copy()
        if not small.any():  # thinner than a pixel there: the pixel nearest to its middle stands for it
            row, column = (np.argwhere(inside).mean(0) * side / inside.shape).astype(int)
            small[row, column] = True
        made.append(Cut(image.crop((x0, y0, x1, y1)), small, (x0, y0, x1, y1)))
    return made


def _pixels(thing: Thing, size: tuple[int, int]) -> np.ndarray:
    """An object's pixels in the picture, bool [H, W]: its mask, else its box."""
    if thing.mask is not None:
        return thing.mask
    x0, y0 = (max(0, math.floor(low)) for low in thing.box[:2])
    x1, y1 = (math.ceil(high) for high in thing.box[2:])
    mask = np.zeros((size[1], size[0]), bool)
    if x0 < x1 and y0 < y1:
        mask[y0:y1, x0:x1] = True
    return mask
