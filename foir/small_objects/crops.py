"""Crops around the objects of an image, at its own resolution (MaO spec, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from foir.prompts import Box, bounds

_Frame = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """An object of an image: its box in pixels, and its mask, bool [H, W], if known."""

    box: Box
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ObjectCrop:
    """The crop of one object.

    Attributes:
        image: The crop at the encoder's resolution.
        mask: The object at the encoder's resolution, bool [side, side]; never empty.
        frame: The cropped area (x0, y0, x1, y1) in pixels of the image.
    """

    image: Image.Image
    mask: np.ndarray
    frame: _Frame


def frame(box: Box, size: tuple[int, int], min_side: int) -> _Frame:
    """The square around a box's centre, at least `min_side` pixels wide and at least as long as the box.

    It is moved, not padded, where it would leave the image, and cut where the image is smaller.
    """
    side = max(min_side, math.ceil(box[2] - box[0]), math.ceil(box[3] - box[1]))
    spans = []
    for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        extent = min(side, length)
        start = round((low + high - extent) / 2)
        spans.append((min(max(start, 0), length - extent), extent))
    (x, width), (y, height) = spans
    return x, y, x + width, y + height


def crop_objects(image: Image.Image, objects: Sequence[DetectedObject], side: int) -> list[ObjectCrop]:
    """Crop an image's objects for an encoder of `side` pixels; objects without a pixel in the image are left out.

    A small object appears at the image's own resolution with its surroundings, a large one fills its crop.
    """
    crops = []
    for item, mask in _visible(image, objects):
        box = item.box if item.mask is None else bounds(mask)
        crops.append(_crop(image, mask, frame(box, image.size, side), side))
    return crops


def full_image_crops(
    image: Image.Image, objects: Sequence[DetectedObject], side: int, *, union: bool
) -> list[ObjectCrop]:
    """The full image as the crop of each object; with `union` once, with the mask of all objects."""
    masks = [mask for _, mask in _visible(image, objects)]
    if union and masks:
        masks = [np.logical_or.reduce(masks)]
    return [_crop(image, mask, (0, 0, *image.size), side) for mask in masks]


def crop_around(image: Image.Image, box: Box) -> Image.Image:
    """The square around a box, moved where it would leave the image: the form of an object query."""
    return image.crop(frame(box, image.size, 1))


def _crop(image: Image.Image, mask: np.ndarray, area: _Frame, side: int) -> ObjectCrop:
    resized = image.crop(area).resize((side, side), Image.Resampling.BICUBIC)  # as `Encoder.pixels` would
    return ObjectCrop(resized, _resize_mask(mask, area, side), area)


def _visible(image: Image.Image, objects: Sequence[DetectedObject]) -> list[tuple[DetectedObject, np.ndarray]]:
    """The objects that have a pixel in the image, with their pixels, bool [H, W]."""
    masks = [_pixels(item, image.size) for item in objects]
    return [(item, mask) for item, mask in zip(objects, masks, strict=True) if mask.any()]


def _resize_mask(mask: np.ndarray, area: _Frame, side: int) -> np.ndarray:
    """An area of a mask at the encoder's resolution, bool [side, side]."""
    inside = mask[area[1] : area[3], area[0] : area[2]]
    resized = np.asarray(Image.fromarray(inside).resize((side, side), Image.Resampling.NEAREST), bool).copy()
    if not resized.any():  # thinner than a pixel: the pixel nearest to its centre stands for it
        row, column = (np.argwhere(inside).mean(0) * side / inside.shape).astype(int)
        resized[row, column] = True
    return resized


def _pixels(item: DetectedObject, size: tuple[int, int]) -> np.ndarray:
    """An object's pixels in the image, bool [H, W]: its mask, else its box."""
    if item.mask is not None:
        return item.mask
    x0, y0 = (max(0, math.floor(low)) for low in item.box[:2])
    x1, y1 = (math.ceil(high) for high in item.box[2:])
    mask = np.zeros((size[1], size[0]), bool)
    if x0 < x1 and y0 < y1:
        mask[y0:y1, x0:x1] = True
    return mask
