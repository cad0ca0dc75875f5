"""Crop: only the box around the prompt, enlarged; the scene is lost (PHS paper, section 4.7)."""

from __future__ import annotations

from foir.encoders.intervention import Intervention
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt


@method("crop", title="Crop", summary="Cuts out the box around the prompt and forgets the rest.")
def crop(prompt: Prompt, mask: PatchMask) -> Intervention:
    """Encode the prompt's bounding box alone; what is chained behind sees every patch as its region."""
    box = mask.box
    return Intervention(pixels=lambda image: image.crop(box), reframes=True)
