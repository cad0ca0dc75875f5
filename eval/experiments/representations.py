"""Representations of a scene with many objects: one vector or several, unit length, float32 [n, dim]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.regions.encoder import RegionEncoder, complete
from foir.regions.recipe import RegionRecipe
from foir.regions.views import cut_tiles
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES, mean_vector

GEM = 3.0  # exponent of generalised-mean pooling
Scenes = Sequence[tuple[Image.Image, Sequence[DetectedObject]]]
Pool = Callable[[Encoder, Sequence[Image.Image]], Tensor]
Representation = Callable[[Encoder, Scenes, Mapping[str, Any]], list[Tensor]]


def gem(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Generalised mean of the patch tokens after the last block, unit vectors [n, d]."""
    prefix = encoder.prefix(encoder.pixels(images))
    with torch.inference_mode():
        tokens = encoder.normed(encoder.layers[-1](prefix.block.tokens))[:, prefix.block.first_patch :].float()
        pooled = tokens.clamp(min=1e-6).pow(GEM).mean(1).pow(1 / GEM)
    return F.normalize(pooled, dim=-1)


def _global(pool: Pool, encoder: Encoder, scenes: Scenes, options: Mapping[str, Any]) -> list[Tensor]:
    """One pooled vector of each scene."""
    return list(torch.split(pool(encoder, [image for image, _ in scenes]), 1))


def _crops(encoder: Encoder, scenes: Scenes, options: Mapping[str, Any]) -> list[Tensor]:
    """Plain vectors of the objects' crops; of the scene where there are none."""
    vectors = []
    for image, objects in scenes:
        crops = [crop.image for crop in crop_objects(image, objects, encoder.size)]
        vectors.append(embed_images(encoder, crops or [image]))
    return vectors


def _mean(representation: Representation, encoder: Encoder, scenes: Scenes, options: Mapping[str, Any]) -> list[Tensor]:
    """The unit mean of each scene's vectors."""
    return [
        mean_vector(vectors, torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device))
        for vectors in representation(encoder, scenes, options)
    ]


def _regions(encoder: Encoder, scenes: Scenes, options: Mapping[str, Any]) -> list[Tensor]:
    """The region vectors of each scene; `options` may name "views"."""
    maker = RegionEncoder(encoder, complete(_recipe(options), encoder))
    images = [image for image, _ in scenes]
    tiles = None
    if maker.recipe.views == "tiles":
        tiles = torch.stack([encoder.pixels(cut_tiles(image)) for image in images])
    objects = scenes if maker.recipe.needs_objects else ()
    found = maker.encode(encoder.prefix(encoder.pixels(images)), tiles, objects)
    return [torch.from_numpy(picture.vectors).to(encoder.device) for picture in found]


def _recipe(options: Mapping[str, Any]) -> RegionRecipe:
    return RegionRecipe.model_validate(options)


def _optimised(mode: str, encoder: Encoder, scenes: Scenes, options: Mapping[str, Any]) -> list[Tensor]:
    """`options` may change the mode's "alpha", "steps" and "rate"."""
    return embed_objects(encoder, scenes, replace(MODES[mode], **options))


def cache_key(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that the vectors depend on beside encoder and boxes, as JSON."""
    if method == "regions":
        return _recipe(options).model_dump(mode="json")
    name = {"mao": "paper"}.get(method, method)
    return dict(options) if name not in MODES else replace(MODES[name], **options).as_dict


REPRESENTATIONS: Mapping[str, Representation] = {
    "cls": partial(_global, embed_images),
    "gem": partial(_global, gem),
    "mean": partial(_mean, _crops),
    "max": _crops,
    "regions": _regions,
    "maskinversion": partial(_mean, partial(_optimised, "maskinversion")),
    "full-image": partial(_optimised, "full-image"),
    "released": partial(_optimised, "released"),
    "mao": partial(_optimised, "paper"),
}
