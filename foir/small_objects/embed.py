"""From pictures with known objects to their vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from foir.encoders.base import Encoder
from foir.small_objects import legrad, mao
from foir.small_objects.crops import DetectedObject, ObjectCrop, crop_objects, uncrop_mask
from foir.small_objects.mao import MODES, Mode

TOGETHER = 64  # crops whose vectors are optimised at once; their slopes and products fill memory


def embed_objects(
    encoder: Encoder, pictures: Iterable[tuple[Image.Image, Sequence[DetectedObject]]], mode: Mode | None = None
) -> list[Tensor]:
    """The vectors of each picture: one that stands for all its objects, or one for each where the mode says so.

    Args:
        encoder: Any that a relevance map is known for.
        pictures: RGB, each with its objects; a picture without any gets its plain feature. They are asked for one
            after the other, and of those with objects only small crops are kept.
        mode: How the objective is read; by default as is best known for the encoder.

    Returns:
        Unit vectors, float32 [n, dim] each.

    Raises:
        Unavailable: See `legrad.crops`.
    """
    mode = mode or mode_for(encoder)
    cuts: list[list[ObjectCrop]] = []
    plain: dict[int, Image.Image] = {}
    for place, (image, things) in enumerate(pictures):
        whole = mode.whole
        cuts.append(
            uncrop_mask(image, things, encoder.size, union=mode.union)
            if whole
            else crop_objects(image, things, encoder.size)
        )
        if not cuts[-1]:
            plain[place] = image
    found: dict[int, Tensor] = {}
    if plain:
        found.update(zip(plain, embed_images(encoder, list(plain.values())).unsqueeze(1), strict=True))
    for group in _groups(cuts):
        found.update(zip(group, _optimised(encoder, [cuts[place] for place in group], mode), strict=True))
    return [found[place] for place in range(len(cuts))]


def mode_for(encoder: Encoder) -> Mode:
    """How the objective is read by default: as is best known for the encoder."""
    return MODES["mini" if encoder.name == "mini" else "paper"]


def embed_images(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Plain features, unit vectors, float32 [n, dim]."""
    return encoder.finish(encoder.prefix(encoder.pixels(images))).vectors.clone()


def _groups(cuts: Sequence[Sequence[ObjectCrop]]) -> Iterator[list[int]]:
    """Pictures with objects whose crops fit together, in order; one with very many is alone."""
    group: list[int] = []
    for place, some in enumerate(cuts):
        if group and some and sum(len(cuts[one]) for one in group) + len(some) > TOGETHER:
            yield group
            group = []
        if some:
            group.append(place)
    if group:
        yield group


def _optimised(encoder: Encoder, cuts: Sequence[Sequence[ObjectCrop]], mode: Mode) -> list[Tensor]:
    counts = [len(some) for some in cuts]
    crops = [one for some in cuts for one in some]
    if mode.whole:  # all crops of a picture are the picture: it is looked at once
        looked = legrad.crops(encoder, encoder.pixels([some[0].image for some in cuts]))
        opened = looked.take(torch.repeat_interleave(torch.arange(len(cuts)), torch.tensor(counts)).to(encoder.device))
    else:
        opened = legrad.crops(encoder, encoder.pixels([one.image for one in crops]))
    masks = torch.stack([torch.from_numpy(one.mask) for one in crops]).to(encoder.device)
    owner = torch.repeat_interleave(torch.arange(len(cuts)), torch.tensor(counts)).to(encoder.device)
    vectors = mao.optimise(opened, masks, owner, mode)
    return list(torch.split(vectors, [1] * len(cuts) if mode.joint else counts))
