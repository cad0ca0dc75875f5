"""Patch features of an image at two scales: whole, and in tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder

MAX_TILES = 3  # along each side


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """An image's patches at one scale.

    Attributes:
        tokens: Unit tokens before the last block, float32 [rows, cols, d].
        colour: Mean colour in CIELAB, 0..1, [rows, cols, 3].
    """

    tokens: np.ndarray
    colour: np.ndarray


def patch_features(encoder: Encoder, image: Image.Image) -> list[PatchFeatures]:
    """Features of the whole image and, where it is larger than the encoder's input, of its tiles."""
    rows, cols = (min(MAX_TILES, -(-length // encoder.size)) for length in (image.height, image.width))
    return [_encode_tiles(encoder, image, *shape) for shape in dict.fromkeys([(1, 1), (rows, cols)])]


def _encode_tiles(encoder: Encoder, image: Image.Image, rows: int, cols: int) -> PatchFeatures:
    xs, ys = (np.linspace(0, length, n + 1).round() for length, n in ((image.width, cols), (image.height, rows)))
    tiles = [image.crop((xs[c], ys[r], xs[c + 1], ys[r + 1])) for r in range(rows) for c in range(cols)]
    block = encoder.prefix(encoder.pixels(tiles)).block
    tokens = F.normalize(block.tokens[:, block.first_patch :].float(), dim=-1).cpu().numpy()
    tiled = tokens.reshape(rows, cols, *encoder.grid, -1).transpose(0, 2, 1, 3, 4)
    shape = (rows * encoder.grid[0], cols * encoder.grid[1])
    return PatchFeatures(tiled.reshape(*shape, -1), _mean_colour(image, shape))


def _mean_colour(image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    lab = np.array(image.convert("RGB").resize(shape[::-1], Image.Resampling.BOX).convert("LAB"))
    lab[..., 1:] ^= 128  # Pillow keeps a* and b* as signed bytes; this moves grey to the middle of 0..255
    return lab.astype(np.float32) / 255
