"""Vectors of images with known objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from foir.encoders.base import Encoder
from foir.small_objects import legrad, mao
from foir.small_objects.crops import DetectedObject, ObjectCrop, crop_objects, full_image_crops
from foir.small_objects.mao import MODES, Mode

BATCH = 64  # crops whose vectors are optimised at once; their slopes and products fill memory


def embed_objects(
    encoder: Encoder, images: Iterable[tuple[Image.Image, Sequence[DetectedObject]]], mode: Mode | None = None
) -> list[Tensor]:
    """The vectors of each image: one for all its objects, or one for each object where the mode says so.

    Args:
        encoder: An encoder that `legrad` supports.
        images: RGB, each with its objects; without any an image gets its plain feature. They are read one by one, and
            only small crops of those with objects stay in memory.
        mode: The variant of the objective; by default the best known one for the encoder.

    Returns:
        Unit vectors, float32 [n, dim] each.

    Raises:
        Unavailable: See `legrad.encode_crops`.
    """
    mode = mode or mode_for(encoder)
    crops: list[list[ObjectCrop]] = []
    empty: dict[int, Image.Image] = {}
    for row, (image, objects) in enumerate(images):
        if mode.whole:
            crops.append(full_image_crops(image, objects, encoder.size, union=mode.union))
        else:
            crops.append(crop_objects(image, objects, encoder.size))
        if not crops[-1]:
            empty[row] = image
    vectors: dict[int, Tensor] = {}
    if empty:
        vectors.update(zip(empty, embed_images(encoder, list(empty.values())).unsqueeze(1), strict=True))
    for rows in _batches(crops):
        vectors.update(zip(rows, _optimise(encoder, [crops[row] for row in rows], mode), strict=True))
    return [vectors[row] for row in range(len(crops))]


def mode_for(encoder: Encoder) -> Mode:
    """The best known variant of the objective for an encoder."""
    return MODES["mini" if encoder.name == "mini" else "paper"]


def embed_images(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Plain features, unit vectors, float32 [n, dim]."""
    return encoder.finish(encoder.prefix(encoder.pixels(images))).vectors.clone()


def _batches(crops: Sequence[Sequence[ObjectCrop]]) -> Iterator[list[int]]:
    """Rows of images with objects, in order, with at most `BATCH` crops together; an image is never split."""
    batch: list[int] = []
    for row, image_crops in enumerate(crops):
        if batch and image_crops and sum(len(crops[other]) for other in batch) + len(image_crops) > BATCH:
            yield batch
            batch = []
        if image_crops:
            batch.append(row)
    if batch:
        yield batch


def _optimise(encoder: Encoder, crops: Sequence[Sequence[ObjectCrop]], mode: Mode) -> list[Tensor]:
    counts = [len(image_crops) for image_crops in crops]
    flat = [crop for image_crops in crops for crop in image_crops]
    owner = torch.repeat_interleave(torch.arange(len(crops)), torch.tensor(counts)).to(encoder.device)
    if mode.whole:  # all crops of an image are the image: it is encoded once
        images = [image_crops[0].image for image_crops in crops]
        features = legrad.encode_crops(encoder, encoder.pixels(images)).take(owner)
    else:
        features = legrad.encode_crops(encoder, encoder.pixels([crop.image for crop in flat]))
    masks = torch.stack([torch.from_numpy(crop.mask) for crop in flat]).to(encoder.device)
    vectors = mao.optimise(features, masks, owner, mode)
    return list(torch.split(vectors, [1] * len(crops) if mode.joint else counts))
