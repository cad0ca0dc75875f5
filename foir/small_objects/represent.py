"""From pictures with known objects to one vector each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from foir.encoders.base import Encoder
from foir.small_objects import legrad, mao
from foir.small_objects.cutting import Thing, cut
from foir.small_objects.mao import MODES, Mode

TOGETHER = 64  # crops whose vectors are optimised at once; their slopes and states fill memory


def represent(
    encoder: Encoder, pictures: Sequence[tuple[Image.Image, Sequence[Thing]]], mode: Mode = MODES["paper"]
) -> Tensor:
    """One vector for each picture that stands for all its objects.

    Args:
        encoder: Any that pools by its CLS token.
        pictures: RGB, each with its objects; a picture without any gets its plain feature.
        mode: How the objective is read; one that takes all crops of a picture together.

    Returns:
        Unit vectors, float32 [P, dim].
    """
    cuts = [cut(image, things, encoder.size) for image, things in pictures]
    plain = [place for place, some in enumerate(cuts) if not some]
    vectors: dict[int, Tensor] = {}
    if plain:
        whole = encoder.finish(encoder.prefix(encoder.pixels([pictures[place][0] for place in plain]))).vectors
        vectors.update(zip(plain, whole.clone(), strict=True))
    group: list[int] = []
    for place, some in enumerate(cuts):
        if not some:
            continue
        if group and sum(len(cuts[one]) for one in group) + len(some) > TOGETHER:
            vectors.update(_optimised(encoder, group, cuts, mode))
            group = []
        group.append(place)
    if group:
        vectors.update(_optimised(encoder, group, cuts, mode))
    return torch.stack([vectors[place] for place in range(len(pictures))])


def _optimised(encoder: Encoder, group: Sequence[int], cuts: Sequence[Sequence], mode: Mode) -> dict[int, Tensor]:
    crops = [one for place in group for one in cuts[place]]
    opened = legrad.crops(encoder, encoder.pixels([one.image for one in crops]))
    masks = torch.stack([torch.from_numpy(one.mask) for one in crops]).to(encoder.device)
    owner = torch.repeat_interleave(torch.arange(len(group)), torch.tensor([len(cuts[place]) for place in group]))
    return dict(zip(group, mao.optimise(opened, masks, owner.to(encoder.device), mode), strict=True))
