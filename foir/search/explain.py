"""Where a search looked: heat maps on the query and on a hit, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from foir.encoders.base import Encoder, Features, Prefix
from foir.patches import PatchMask

NIGHT = (18, 20, 48)
DARKEST = 0.62  # opacity of the veil where the heat is 0


def query_heat(encoder: Encoder, features: Features, i: int = 0) -> np.ndarray:
    """CLS attention on the patches, averaged over the heads that were kept, float32 [rows, cols] in 0..1.

    Args:
        encoder: The encoder that made the features.
        features: From `finish` or `features`.
        i: Which of its rows.
    """
    gate = features.gates[i]
    attention = features.attention[i] if gate is None else features.attention[i, list(gate.on)]
    return _stretch(attention.mean(0)[encoder.first_patch :].float().cpu().numpy().reshape(encoder.grid))


def head_heat(encoder: Encoder, features: Features, head: int, i: int = 0) -> np.ndarray:
    """CLS attention of one head on the patches, float32 [rows, cols] in 0..1; see `query_heat`."""
    attention = features.attention[i, head, encoder.first_patch :]
    return _stretch(attention.float().cpu().numpy().reshape(encoder.grid))


def region_vector(encoder: Encoder, prefix: Prefix, mask: PatchMask) -> np.ndarray:
    """The mean patch vector of what was pointed at, float32 [d]."""
    return encoder.patch_features(prefix)[0].cpu().numpy()[mask.patches.reshape(-1)].mean(0)


def result_heat(encoder: Encoder, wanted: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """How alike each patch of a hit is to what was pointed at, float32 [rows, cols] in 0..1.

    It shows where the thing can be found on the hit; it is no part of the score.

    Args:
        encoder: The encoder.
        wanted: From `region_vector`.
        patches: The hit's unit patch vectors, one row of `Encoder.patch_features`, [rows * cols, d].
    """
    return _stretch((patches @ wanted).reshape(encoder.grid))


def veil(heat: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A heat map [rows, cols] in 0..1 as an RGBA picture to lay over another: it darkens what is cold."""
    alpha = Image.fromarray((255 * DARKEST * (1 - heat)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    dark = Image.new("RGBA", size, NIGHT)
    dark.putalpha(alpha)
    return dark


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The RGB picture with a heat map [rows, cols] in 0..1 laid over it."""
    return Image.alpha_composite(image.convert("RGBA"), veil(heat, image.size)).convert("RGB")


def outline(image: Image.Image, mask: PatchMask) -> Image.Image:
    """The picture with the box of the region drawn on it."""
    drawn = image.copy()
    x0, y0, x1, y1 = mask.box
    width = max(2, round(max(image.size) / 160))
    ImageDraw.Draw(drawn).rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 170, 40), width=width)
    return drawn


def side_by_side(pictures: Sequence[Image.Image], height: int = 240) -> Image.Image:
    """Pictures side by side at one height."""
    sized = [p.resize((max(1, round(p.width * height / p.height)), height), Image.Resampling.BICUBIC) for p in pictures]
    sheet = Image.new("RGB", (sum(p.width for p in sized) + 6 * (len(sized) - 1), height), "white")
    x = 0
    for picture in sized:
        sheet.paste(picture, (x, 0))
        x += picture.width + 6
    return sheet


def _stretch(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-12)).astype(np.float32)
