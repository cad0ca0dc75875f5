"""From a prompt to an object's mask: SAM where FOIR_SAM names its weights, patch features otherwise."""

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

DEFAULT_SAM = "facebook/sam-vit-huge"
STROKE_POINTS = 8  # points sampled along a stroke
Outline = Callable[[Prompt, PatchMask], np.ndarray]  # a prompt on one image to the object's pixels, bool [H, W]
Segmenter = Callable[[Image.Image], Outline]  # the expensive step, once for each RGB image


def click_points(prompt: Prompt, size: tuple[int, int]) -> list[tuple[float, float]]:
    """The points of a prompt, and a few along each of its strokes that lie on the image of (width, height)."""
    points = list(prompt.points)
    for stroke in prompt.strokes:
        path = [(x, y) for x, y in stroke.path if 0 <= x <= size[0] and 0 <= y <= size[1]]
        indices = np.linspace(0, len(path) - 1, STROKE_POINTS).round().astype(int) if path else ()
        points += [path[i] for i in dict.fromkeys(indices)]
    return points


def load_sam(device: str = "cpu") -> Sam:
    """Load SAM from FOIR_SAM, a checkpoint of segment-anything or a repository on the Hub; ViT-H if it is not set.

    Raises:
        Unavailable: The weights are missing, or not SAM's.
    """
    from foir.segment import sam

    return sam.load(os.environ.get("FOIR_SAM") or DEFAULT_SAM, device)


def load_segmenter(encoder: Encoder) -> Segmenter:
    """The segmenter for an encoder: SAM if FOIR_SAM is set, else the regions of `mini`, else similar patches.

    Raises:
        Unavailable: FOIR_SAM names missing weights.
    """
    if os.environ.get("FOIR_SAM"):
        return load_sam(encoder.device).outline
    from foir.segment import regions, similar_patches

    if encoder.name == "mini":
        return regions.RegionProposer(encoder).outline
    return similar_patches.SimilarPatches(encoder).outline


__all__ = ["DEFAULT_SAM", "Outline", "Segmenter", "click_points", "load_sam", "load_segmenter"]
