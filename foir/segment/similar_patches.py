"""Outlines from any encoder: the patches that resemble the prompted ones and are connected to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from foir.encoders.base import Encoder
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.segment.outline import Outline


@dataclass(frozen=True)
class SimilarPatches:
    """Outlines by cosine similarity of patches."""

    encoder: Encoder

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`."""
        from scipy.ndimage import label

        patches = self.encoder.patch_features(self.encoder.prefix(self.encoder.pixels([image])))[0].cpu().numpy()

        def outline(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            prompted = mask.patches.ravel()
            similarity = patches @ patches[prompted].mean(0)
            selected = (similarity > (similarity[prompted].mean() + similarity.mean()) / 2) | prompted
            components, _ = label(selected.reshape(self.encoder.grid))
            connected = np.unique(components[mask.patches])
            region = Image.fromarray(np.isin(components, connected[connected > 0]))
            return np.asarray(region.resize(image.size, Image.Resampling.NEAREST), bool) | mask.pixels

        return outline
