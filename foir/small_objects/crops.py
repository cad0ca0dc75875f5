"""Crops around the objects of a picture, at its own resolution (MaO spec, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foir.prompts import Box, bounds


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """An object of a picture: its box in pixels, and its mask, bool [H, W], where one is known."""

    box: Box
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ObjectCrop:
    """One object's crop.

    Attributes:
        image: The crop at the encoder's resolution.
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


def crop_objects(image: Image.Image, things: Sequence[DetectedObject], side: int) -> list[ObjectCrop]:
    """Crops of a picture's objects for an encoder of `side` pixels; one with no pixel in the picture is left out.

    A small object is so seen at the picture's own resolution with what is around it, a large one in its box.
    """
    made = []
    for thing, mask in _present(image, things):
        box = thing.box if thing.mask is None else bounds(mask)
        around = frame(box, image.size, side)
        made.append(_cut(image, mask, around, side))
    return made


def uncrop_mask(image: Image.Image, things: Sequence[DetectedObject], side: int, *, union: bool) -> list[ObjectCrop]:
    """The whole picture in the place of each object's crop; once, with the mask of them all, for `union`."""
    masks = [mask for _, mask in _present(image, things)]
    if union and masks:
        masks = [np.logical_or.reduce(masks)]
    around = (0, 0, *image.size)
    return [_cut(image, mask, around, side) for mask in masks]


def crop_around(image: Image.Image, box: Box) -> Image.Image:
    """The square around a box, moved where it would leave the picture: how an object is asked for."""
    return image.crop(frame(box, image.size, 1))


def _cut(image: Image.Image, mask: np.ndarray, around: tuple[int, int, int, int], side: int) -> ObjectCrop:
    small = image.crop(around).resize((side, side), Image.Resampling.BICUBIC)  # as `Encoder.pixels` would
    return ObjectCrop(small, _reduced(mask, around, side), around)


def _present(image: Image.Image, things: Sequence[DetectedObject]) -> list[tuple[DetectedObject, np.ndarray]]:
    """The objects that have a pixel in the picture, and their pixels, bool [H, W]."""
    seen = ((thing, _pixels(thing, image.size)) for thing in things)
    return [(thing, mask) for thing, mask in seen if mask.any()]


def _reduced(mask: np.ndarray, around: tuple[int, int, int, int], side: int) -> np.ndarray:
    """A part of a mask at the encoder's resolution, bool [side, side]."""
    inside = mask[around[1] : around[3], around[0] : around[2]]
    small = np.asarray(Image.fromarray(inside).resize((side, side), Image.Resampling.NEAREST), bool).copy()
    if not small.any():  # thinner than a pixel there: the pixel nearest to its middle stands for it
        row, column = (np.argwhere(inside).mean(0) * side / inside.shape).astype(int)
        small[row, column] = True
    return small


def _pixels(thing: DetectedObject, size: tuple[int, int]) -> np.ndarray:
    """An object's pixels in the picture, bool [H, W]: its mask, else its box."""
    if thing.mask is not None:
        return thing.mask
    x0, y0 = (max(0, math.floor(low)) for low in thing.box[:2])
    x1, y1 = (math.ceil(high) for high in thing.box[2:])
    mask = np.zeros((size[1], size[0]), bool)
    if x0 < x1 and y0 < y1:
        mask[y0:y1, x0:x1] = True
    return mask
