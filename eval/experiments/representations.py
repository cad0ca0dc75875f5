"""Ways to stand for a scene full of objects: by one vector or by many, unit length, float32 [n, dim]."""

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
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.embed import embed_images, embed_objects
from foir.small_objects.mao import MODES, mean_vector

GEM = 3.0  # exponent of generalised-mean pooling
Pictures = Sequence[tuple[Image.Image, Sequence[DetectedObject]]]
Pool = Callable[[Encoder, Sequence[Image.Image]], Tensor]
Way = Callable[[Encoder, Pictures, Mapping[str, Any]], list[Tensor]]


def gem(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Generalised mean of the patches behind the last block, unit vectors [n, d]."""
    prefix = encoder.prefix(encoder.pixels(images))
    with torch.inference_mode():
        tokens = encoder.norm(encoder.layers[-1](prefix.block.tokens))[:, prefix.block.first_patch :].float()
        pooled = tokens.clamp(min=1e-6).pow(GEM).mean(1).pow(1 / GEM)
    return F.normalize(pooled, dim=-1)


def _whole(encoder: Encoder, pictures: Pictures, options: Mapping[str, Any]) -> list[Tensor]:
    return list(torch.split(embed_images(encoder, [image for image, _ in pictures]), 1))


def _gem(encoder: Encoder, pictures: Pictures, options: Mapping[str, Any]) -> list[Tensor]:
    return list(torch.split(gem(encoder, [image for image, _ in pictures]), 1))


def _crops(encoder: Encoder, pictures: Pictures, options: Mapping[str, Any]) -> list[Tensor]:
    """Plain vectors of the objects' crops; of the picture where there is none."""
    found = []
    for image, things in pictures:
        cuts = [one.image for one in crop_objects(image, things, encoder.size)]
        found.append(embed_images(encoder, cuts or [image]))
    return found


def _averaged(way: Way, encoder: Encoder, pictures: Pictures, options: Mapping[str, Any]) -> list[Tensor]:
    """The unit mean of each picture's vectors."""
    some = way(encoder, pictures, options)
    return [
        mean_vector(vectors, torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)) for vectors in some
    ]


def _represented(mode: str, encoder: Encoder, pictures: Pictures, options: Mapping[str, Any]) -> list[Tensor]:
    """`options` may change the mode's "alpha", "steps" and "rate"."""
    return embed_objects(encoder, pictures, replace(MODES[mode], **options))


def facts(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that a way's vectors depend on beside encoder and boxes, as JSON holds it."""
    name = {"mao": "paper"}.get(method, method)
    return dict(options) if name not in MODES else replace(MODES[name], **options).as_dict


WAYS: Mapping[str, Way] = {
    "cls": _whole,
    "gem": _gem,
    "mean": partial(_averaged, _crops),
    "max": _crops,
    "maskinversion": partial(_averaged, partial(_represented, "maskinversion")),
    "full-image": partial(_represented, "full-image"),
    "released": partial(_represented, "released"),
    "mao": partial(_represented, "paper"),
}
