"""Foveal Attention (FALIP): a Gaussian window on the CLS row's logits inside the box, in the last four blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from foir.encoders.intervention import Intervention
from foir.errors import BadPrompt
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Box, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.block import LastBlock

BLOCKS = 4


@method("foveal", title="Foveal attention", summary="Draws every head's attention a little towards the box.")
def foveal(
    prompt: Prompt, mask: PatchMask, *, alpha: float = 0.2, sigma: float = 100.0, eps: float = 1e-6
) -> Intervention:
    """Add a normalised Gaussian window to the CLS logits of every head (FALIP, ECCV 2024).

    It is defined for boxes; any other prompt is replaced by its bounding box, with a note. Several boxes are combined
    by their maximum.

    Args:
        prompt: The fitted prompt.
        mask: Its region.
        alpha: Height of the window, in logits.
        sigma: Width of the Gaussian, in patches.
        eps: Keeps a flat window at alpha.

    Raises:
        BadPrompt: `sigma` or `eps` is not positive.
    """
    if sigma <= 0 or eps <= 0:
        raise BadPrompt(f"The width and eps of the foveal window must be positive, not {sigma:g} and {eps:g}.")
    boxes: tuple[Box, ...] = prompt.boxes if prompt.only_boxes else (mask.box,)
    notes = () if prompt.only_boxes else ("Foveal attention takes boxes only: the box around your marks is used.",)
    bias = np.zeros(mask.patches.shape, np.float32)
    for box in boxes:
        rows, cols = token_window(box, mask.size, mask.patches.shape)
        values = window(rows.stop - rows.start, cols.stop - cols.start, alpha, sigma, eps)
        bias[rows, cols] = np.maximum(bias[rows, cols], values)

    def add_bias(block: LastBlock, logits: Tensor) -> Tensor:
        out = logits.clone()
        out[:, block.first_patch :] += logits.new_tensor(bias.reshape(-1))
        return out

    return Intervention(logits=dict.fromkeys(range(BLOCKS), add_bias), notes=notes)


def window(rows: int, cols: int, alpha: float = 0.2, sigma: float = 100.0, eps: float = 1e-6) -> np.ndarray:
    """The window on a box of rows x cols patches: alpha at the centre, near 0 in the corners, flat up to 2 x 2."""
    y, x = np.mgrid[:rows, :cols]
    r = np.exp(-((y - (rows - 1) / 2) ** 2 + (x - (cols - 1) / 2) ** 2) / (2 * sigma**2))
    return alpha * (r - r.min() + eps) / (r.max() - r.min() + eps)


def token_window(box: Box, size: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of patches of a box, by FALIP's rule: a border on a patch edge takes the patch before."""
    x0, y0, x1, y1 = box

    def span(low: float, high: float, pixels: int, patches: int) -> slice:
        start = max(math.ceil(low * patches / pixels), 1) - 1
        return slice(start, max(math.ceil(high * patches / pixels), 1))

    return span(y0, y1, size[1], grid[0]), span(x0, x1, size[0], grid[1])
