"""The patches that are like what is pointed at and hang together with it: an outline from any encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from foir.encoders.base import Encoder
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.segment import Outline


@dataclass(frozen=True)
class SimilarPatches:
    """Outlines by cosine between patches."""

    encoder: Encoder

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`."""
        from scipy.ndimage import label

        rows, cols = self.encoder.grid
        patches = self.encoder.patch_features(self.encoder.prefix(self.encoder.pixels([image])))[0].cpu().numpy()

        def pointed(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            inside = mask.patches.ravel()
            alike = patches @ patches[inside].mean(0)
            likely = (alike > (alike[inside].mean() + alike.mean()) / 2) | inside
            groups, _ = label(likely.reshape(rows, cols))
            touched = np.unique(groups[mask.patches])
            grown = Image.fromarray(np.isin(groups, touched[touched > 0]))
            return np.asarray(grown.resize(image.size, Image.Resampling.NEAREST), bool) | mask.pixels

        return pointed
