"""Chooses and loads the segmenter of an encoder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from foir.segment.outline import Segmenter

if TYPE_CHECKING:
    from foir.encoders.base import Encoder
    from foir.segment.sam import Sam

DEFAULT_SAM = "facebook/sam-vit-huge"


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
