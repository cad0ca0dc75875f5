"""The prompts of a query: its box, jittered boxes, its mask, or every point on it."""

from __future__ import annotations

import numpy as np

from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt

from ..datasets.base import Query

DRAWS = 3  # jittered boxes of each query
PromptMask = tuple[Prompt, PatchMask]


def query_prompts(
    query: Query, number: int, size: tuple[int, int], grid: tuple[int, int], *, prompt: str = "box", noise: int = 0
) -> list[PromptMask]:
    """The prompts of one query; none where they need a mask that it does not have.

    Args:
        query: The object.
        number: Number of the query in its data set; seeds the noise.
        size: Width and height of its image in pixels.
        grid: Rows and columns of the encoder's patches.
        prompt: "box"; "segment"; or "point": the 3 x 3 window around every patch whose centre lies on the object, over
            which the metric is averaged (PHS spec, section 5).
        noise: Largest shift m of a box's sides in pixels (A9, A10); the metric is averaged over `DRAWS` draws.
    """
    if prompt == "box":
        boxes = [query.prompt] if noise == 0 else [jittered_box(query.prompt, noise, number, i) for i in range(DRAWS)]
        return [_rasterise(box, size, grid) for box in boxes]
    if query.mask is None:
        return []
    segment = Prompt(mask=query.mask()).fit(size)
    if prompt == "segment":
        return [(segment, rasterise(segment, size, grid))]
    rows, cols = np.nonzero(rasterise(segment, size, grid, rule="center").patches)
    centres = zip((cols + 0.5) * size[0] / grid[1], (rows + 0.5) * size[1] / grid[0], strict=True)
    return [_rasterise(Prompt.point(x, y), size, grid) for x, y in centres]


def jittered_box(prompt: Prompt, noise: int, number: int, draw: int) -> Prompt:
    """A box moved by c and grown by l, both uniform over the integers -m to m (A9, A10); corners are sorted."""
    ((x0, y0, x1, y1),) = prompt.boxes
    cx, cy, lx, ly = np.random.default_rng([noise, number, draw]).integers(-noise, noise + 1, 4).tolist()
    left, right = sorted((x0 + cx - lx, x1 + cx + lx))
    upper, lower = sorted((y0 + cy - ly, y1 + cy + ly))
    return Prompt.box(left, upper, max(right, left + 1), max(lower, upper + 1))


def _rasterise(prompt: Prompt, size: tuple[int, int], grid: tuple[int, int]) -> PromptMask:
    fitted = _clip_box(prompt, size).fit(size)
    return fitted, rasterise(fitted, size, grid)


def _clip_box(prompt: Prompt, size: tuple[int, int]) -> Prompt:
    """A box that noise moved out of the image, moved to the nearest pixel."""
    if not prompt.boxes:
        return prompt
    ((x0, y0, x1, y1),) = prompt.boxes
    width, height = size
    left, upper = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return Prompt.box(left, upper, max(min(x1, width), left + 1), max(min(y1, height), upper + 1))
