"""Heat maps of a search: on the query image and on a result, and images of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from foir.patches import PatchMask
from foir.prompts import Box

if TYPE_CHECKING:
    from foir.encoders.base import Encoder, Features, Prefix

SHADE = (18, 20, 48)
MAX_OPACITY = 0.62  # of the shade where the heat is 0


def query_heat(encoder: Encoder, features: Features, i: int = 0) -> np.ndarray:
    """CLS attention on the patches, averaged over the selected heads, float32 [rows, cols] in 0..1.

    Args:
        encoder: The encoder that made the features.
        features: From `finish` or `features`.
        i: Row of the features.
    """
    gate = features.gates[i]
    attention = features.attention[i] if gate is None else features.attention[i, list(gate.on)]
    return _stretch(attention.mean(0)[encoder.first_patch :].float().cpu().numpy().reshape(encoder.grid))


def head_heat(encoder: Encoder, features: Features, head: int, i: int = 0) -> np.ndarray:
    """CLS attention of one head on the patches, float32 [rows, cols] in 0..1; see `query_heat`."""
    attention = features.attention[i, head, encoder.first_patch :]
    return _stretch(attention.float().cpu().numpy().reshape(encoder.grid))


def region_vector(encoder: Encoder, prefix: Prefix, mask: PatchMask) -> np.ndarray:
    """The mean patch vector of the region, float32 [d]."""
    return encoder.patch_features(prefix)[0].cpu().numpy()[mask.patches.reshape(-1)].mean(0)


def result_heat(encoder: Encoder, region: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Similarity of each patch of a result to the query's region, float32 [rows, cols] in 0..1.

    It shows where the object may be on the result; it is not part of the score.

    Args:
        encoder: The encoder.
        region: From `region_vector`.
        patches: The result's unit patch vectors, one row of `Encoder.patch_features`, [rows * cols, d].
    """
    return _stretch((patches @ region).reshape(encoder.grid))


def shade(heat: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A heat map [rows, cols] in 0..1 as an RGBA overlay that darkens cold patches."""
    alpha = Image.fromarray((255 * MAX_OPACITY * (1 - heat)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    layer = Image.new("RGBA", size, SHADE)
    layer.putalpha(alpha)
    return layer


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An RGB image with a heat map [rows, cols] in 0..1 laid over it."""
    return Image.alpha_composite(image.convert("RGBA"), shade(heat, image.size)).convert("RGB")


def outline(image: Image.Image, box: Box) -> Image.Image:
    """An image with a box (x0, y0, x1, y1) drawn on it, in its pixels."""
    outlined = image.copy()
    x0, y0, x1, y1 = box
    width = max(2, round(max(image.size) / 160))
    ImageDraw.Draw(outlined).rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=(255, 170, 40), width=width)
    return outlined


def outline_all(image: Image.Image, boxes: Sequence[Box], size: tuple[int, int]) -> Image.Image:
    """An image with boxes drawn on it, which are in pixels of the same image at another size."""
    scale = (image.width / size[0], image.height / size[1])
    for box in boxes:
        x0, y0, x1, y1 = (edge * scale[axis % 2] for axis, edge in enumerate(box))
        image = outline(image, (x0, y0, x1, y1))
    return image


def side_by_side(images: Sequence[Image.Image], height: int = 240) -> Image.Image:
    """Images side by side, resized to one height in pixels."""
    resized = [i.resize((max(1, round(i.width * height / i.height)), height), Image.Resampling.BICUBIC) for i in images]
    canvas = Image.new("RGB", (sum(i.width for i in resized) + 6 * (len(resized) - 1), height), "white")
    x = 0
    for image in resized:
        canvas.paste(image, (x, 0))
        x += image.width + 6
    return canvas


def _stretch(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / max(high - low, 1e-12)).astype(np.float32)
