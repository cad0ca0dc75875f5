"""From a prompt to the outline of the thing it means: SAM where FOIR_SAM names its weights, patches otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from foir.patches import PatchMask
from foir.prompts import Prompt

if TYPE_CHECKING:
    from foir.encoders.base import Encoder
    from foir.segment.sam import Sam

HUGE = "facebook/sam-vit-huge"
PLACES = 8  # along a stroke that a model is told
Outline = Callable[[Prompt, PatchMask], np.ndarray]  # a prompt on one picture to the thing's pixels, bool [H, W]
Segmenter = Callable[[Image.Image], Outline]  # the expensive part, once for each RGB picture


def click_points(prompt: Prompt, size: tuple[int, int]) -> list[tuple[float, float]]:
    """The places a prompt names: its points, and a few along its strokes that lie on the picture."""
    found = list(prompt.points)
    for stroke in prompt.strokes:
        path = [at for at in stroke.path if 0 <= at[0] <= size[0] and 0 <= at[1] <= size[1]]
        picked = np.linspace(0, len(path) - 1, PLACES).round().astype(int) if path else ()
        found += [path[place] for place in dict.fromkeys(picked)]
    return found


def load_sam(device: str = "cpu") -> Sam:
    """SAM with the weights that FOIR_SAM names, a checkpoint of segment-anything or a repository; else the huge one.

    Raises:
        Unavailable: They are not at hand, or not SAM's.
    """
    from foir.segment import sam as models

    return models.load(os.environ.get("FOIR_SAM") or HUGE, device)


def load_segmenter(encoder: Encoder) -> Segmenter:
    """What outlines things for an encoder: SAM where FOIR_SAM is set, `mini`'s regions, or patches alike.

    Raises:
        Unavailable: FOIR_SAM names weights that are not at hand.
    """
    if os.environ.get("FOIR_SAM"):
        return load_sam(encoder.device).outline
    from foir.segment import regions, similar_patches

    if encoder.name == "mini":
        return regions.RegionProposer(encoder).outline
    return similar_patches.SimilarPatches(encoder).outline


__all__ = ["HUGE", "Outline", "Segmenter", "click_points", "load_sam", "load_segmenter"]
