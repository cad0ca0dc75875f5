"""Mask: pixels outside the prompt are blanked before encoding (PHS paper, section 4.1)."""

from __future__ import annotations

from PIL import Image

from foir.encoders.intervention import Intervention
from foir.errors import BadPrompt
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt

FILLS = ("mean", "black")


@method("mask", title="Mask", summary="Blanks everything outside the prompt.")
def mask(prompt: Prompt, mask: PatchMask, *, fill: str = "mean") -> Intervention:
    """Blank the pixels outside the prompt.

    Args:
        prompt: The fitted prompt.
        mask: Its region.
        fill: "mean" gives 0 after the encoder's normalisation, "black" gives black pixels before it. The paper does
            not say which it used.

    Raises:
        BadPrompt: Another fill.
    """
    if fill not in FILLS:
        raise BadPrompt(f"Unknown fill {fill!r}: use one of {', '.join(FILLS)}.")

    def blank(image: Image.Image) -> Image.Image:
        alpha = Image.fromarray(mask.pixels).convert("L")
        if fill == "black":
            return Image.composite(image.convert("RGB"), Image.new("RGB", image.size), alpha)
        blanked = image.convert("RGBA")
        blanked.putalpha(alpha)
        return blanked

    return Intervention(pixels=blank)
