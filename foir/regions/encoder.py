"""Encodes the regions of pictures and of queries by one recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder, Prefix
from foir.errors import BadIndex
from foir.patches import PatchMask
from foir.prompts import bounds
from foir.regions.close_ups import take_close_ups
from foir.regions.compress import merge_similar
from foir.regions.recipe import MAO, RegionRecipe
from foir.regions.views import TILES, WHOLE, place, to_corners
from foir.regions.ways import RegionWay, find_way
from foir.regions.windows import mask_boxes, window_masks
from foir.small_objects import detect
from foir.small_objects.crops import DetectedObject, ObjectCrop, crop_around, crop_objects
from foir.small_objects.embed import embed_images, embed_objects, mode_for

PictureObjects = tuple[Image.Image, Sequence[DetectedObject]]  # a picture, and the objects that are known on it
_Part = tuple[np.ndarray, np.ndarray]  # unit vectors [n, dim], and their boxes in fractions of the picture [n, 4]


@dataclass(frozen=True, eq=False)
class PictureRegions:
    """The regions of one picture: unit vectors, float32 [m, dim], and their boxes, uint16 [m, 4]; m is at least 1.

    A box (x0, y0, x1, y1) counts in 65,535ths of the picture's width and height.
    """

    vectors: np.ndarray
    boxes: np.ndarray


class RegionEncoder:
    """Encodes regions with one encoder by one recipe. Safe to share between threads."""

    def __init__(self, encoder: Encoder, recipe: RegionRecipe) -> None:
        """Prepare the windows.

        Raises:
            BadPrompt: The way is not registered.
        """
        self.encoder, self.recipe = encoder, recipe
        self._way = None if recipe.way == MAO else find_way(recipe.way)
        windows = window_masks(encoder.grid, recipe.scales)
        self._boxes = mask_boxes(windows)
        self._windows = torch.from_numpy(windows.reshape(len(windows), -1))
        self._mean = None if recipe.mean is None else torch.tensor(recipe.mean)

    @property
    def meets_words(self) -> bool:
        """The vectors lie in the space of the encoder's own features, and so of its words."""
        return self._way is None or self._way.meets_words

    def encode(
        self, prefix: Prefix, tiles: Tensor | None = None, objects: Sequence[PictureObjects] = ()
    ) -> list[PictureRegions]:
        """The regions of each picture of a batch.

        Args:
            prefix: Of B whole pictures.
            tiles: Pixels of their tiles (`foir.regions.views`), [B, 4, 3, size, size]; for the views "tiles".
            objects: The pictures with the objects that are known on them, which are detected where none are; for
                recipes that need objects.
        """
        detected = [(image, known or self._detector(image)) for image, known in objects]
        if self.recipe.way == MAO:
            return [
                _regions([(vectors.cpu().numpy(), np.array([WHOLE]))], 1)
                for vectors in embed_objects(self.encoder, detected)
            ]
        parts = [[part] for part in self._windows_of(prefix, [WHOLE] * len(prefix))]
        if self.recipe.views == "tiles" and tiles is not None:
            views = self.encoder.prefix(tiles.flatten(0, 1))
            for number, part in enumerate(self._windows_of(views, list(TILES) * len(prefix))):
                parts[number // len(TILES)].append(part)
        for row, (image, known) in enumerate(detected):
            if crops := crop_objects(image, known, self.encoder.size):
                vectors = embed_images(self.encoder, [crop.image for crop in crops]).cpu().numpy()
                parts[row].append((vectors, np.array([_object_box(crop, image.size) for crop in crops])))
        return [_regions(each, self.recipe.limit) for each in parts]

    def encode_query(self, image: Image.Image, prefix: Prefix, mask: PatchMask) -> np.ndarray:
        """Vectors of the thing under a mask, of which the best counts, float32 [n, dim].

        It is seen as the regions were, on the whole picture, and from nearer (`foir.regions.close_ups`): the mean of
        these views is one vector. Where the regions were crops, it is cropped at its own resolution for another one.

        Args:
            image: The picture that it is on.
            prefix: Of that picture.
            mask: Its patches and pixels.
        """
        vectors = []
        if self._way is not None:
            near, masks = zip(*take_close_ups(image, mask), strict=True)
            views = [
                self._seen(self._way, prefix, [mask]),
                self._seen(self._way, self.encoder.prefix(self.encoder.pixels(near)), masks),
            ]
            vectors.append(F.normalize(torch.cat(views).mean(0, keepdim=True), dim=-1))
        if self.recipe.needs_objects:
            vectors.append(embed_images(self.encoder, [crop_around(image, bounds(mask.pixels))]))
        return np.concatenate([part.float().cpu().numpy() for part in vectors])

    @torch.inference_mode()
    def _seen(self, way: RegionWay, prefix: Prefix, masks: Sequence[PatchMask]) -> Tensor:
        """The vector of one thing on each of B pictures, float32 [B, dim]."""
        areas = torch.from_numpy(np.stack([mask.patches.reshape(-1) for mask in masks]))
        return way.vectors(self.encoder, prefix, areas, self._mean).float().diagonal(dim1=0, dim2=1).T

    @torch.inference_mode()
    def mean(self, prefixes: Sequence[Prefix]) -> tuple[float, ...] | None:
        """The mean that the recipe's way subtracts, over all windows of some pictures; None where it subtracts none."""
        if self._way is None or not self._way.centred or not prefixes:
            return None
        centred = find_way(self._way.centred)
        vectors = [centred.vectors(self.encoder, prefix, self._windows, None).flatten(0, 1) for prefix in prefixes]
        return tuple(torch.cat(vectors).mean(0).tolist())

    @torch.inference_mode()
    def _windows_of(self, prefix: Prefix, frames: Sequence[tuple[float, float, float, float]]) -> list[_Part]:
        """The windows of each view of a batch; a frame is the view's box on its picture."""
        if self._way is None:
            raise TypeError("MaO has no windows")
        vectors = self._way.vectors(self.encoder, prefix, self._windows, self._mean).float().cpu().numpy()
        return [(part, place(self._boxes, frame)) for part, frame in zip(vectors, frames, strict=True)]

    @cached_property
    def _detector(self) -> detect.Detector:
        """Detects objects where none are known. Loaded for the first such picture."""
        return detect.load(self.encoder)


def check_repeatable(recipe: RegionRecipe, encoder: Encoder) -> None:
    """Check that regions of further pictures would be made as those of an index.

    Raises:
        BadIndex: The recipe names another detector, or other settings of MaO, than this encoder has.
        Unavailable: The detector's weights are not known.
    """
    expected = complete(recipe, encoder)
    if recipe.finder != expected.finder:
        made = f"with {recipe.finder}, not with {expected.finder}"
        raise BadIndex(f"The regions of the index were made {made}: build it again.")
    if recipe != expected:
        raise BadIndex("The regions of the index were made with other settings of MaO: build it again.")


def complete(recipe: RegionRecipe, encoder: Encoder) -> RegionRecipe:
    """The recipe with the names of what it needs beside the encoder."""
    if not recipe.needs_objects:
        return recipe
    mode = json.dumps(mode_for(encoder).as_dict, sort_keys=True) if recipe.way == MAO else ""
    return recipe.model_copy(update={"finder": detect.detector_name(encoder), "mode": mode})


def _regions(parts: Sequence[_Part], limit: int) -> PictureRegions:
    """All parts of a picture as at most `limit` regions."""
    vectors, boxes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    vectors, kept = merge_similar(vectors, limit)
    return PictureRegions(vectors, to_corners(boxes[kept]))


def _object_box(crop: ObjectCrop, size: tuple[int, int]) -> np.ndarray:
    """The box of a cropped object in fractions of its picture, [4]."""
    inside = np.array([bounds(crop.mask)]) / crop.mask.shape[0]
    x0, y0, x1, y1 = np.array(crop.frame) / [*size, *size]
    return place(inside, (x0, y0, x1, y1))[0]
