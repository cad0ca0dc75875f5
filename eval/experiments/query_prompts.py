"""The prompts of a query: its box, jittered boxes, its mask, or every point on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foir.errors import BadPrompt, Unavailable
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt
from foir.terminal import write

from ..datasets.base import Dataset, Query
from ..datasets.checks import is_outside

DRAWS = 3  # jittered boxes of each query
NO_OUTLINE, NO_EXTENT, LEFT_OUT = 1, 2, 3
ODDITIES = {
    NO_OUTLINE: "queries without a usable outline, for which the box stands in",
    NO_EXTENT: "queries whose box has no or negative size, which is read as its corners' order and at least one pixel",
    LEFT_OUT: "queries left out because their box has no part on the image",
}
PromptMask = tuple[Prompt, PatchMask]


def query_prompts(
    query: Query, number: int, size: tuple[int, int], grid: tuple[int, int], *, prompt: str = "box", noise: int = 0
) -> tuple[list[PromptMask], int]:
    """The prompts of one query, and what is odd about its annotation: 0 or a key of `ODDITIES`.

    Where the outline is missing or empty the box stands in; a box without a part on the image gives no prompts.

    Args:
        query: The object.
        number: Number of the query in its data set; seeds the noise.
        size: Width and height of its image in pixels.
        grid: Rows and columns of the encoder's patches.
        prompt: "box"; "segment"; or "point": the 3 x 3 window around every patch whose centre lies on the object, over
            which the metric is averaged (PHS paper).
        noise: Largest shift m of a box's sides in pixels (A9, A10); the metric is averaged over `DRAWS` draws.
    """
    region, oddity = (None, 0) if prompt == "box" else (_outline(query, size), 0)
    if region is None:
        box, oddity = usable_prompt(query.prompt, size)
        if box is None:
            return [], oddity
        if prompt == "box":
            boxes = [box] if noise == 0 else [jittered_box(box, noise, number, i) for i in range(DRAWS)]
            return [_rasterise(each, size, grid) for each in boxes], oddity
        region, oddity = _clip_box(box, size).fit(size), NO_OUTLINE
    if prompt == "segment":
        return [(region, rasterise(region, size, grid))], oddity
    rows, cols = np.nonzero(rasterise(region, size, grid, rule="center").patches)
    centres = zip((cols + 0.5) * size[0] / grid[1], (rows + 0.5) * size[1] / grid[0], strict=True)
    return [_rasterise(Prompt.point(x, y), size, grid) for x, y in centres], oddity


def usable_prompt(prompt: Prompt, size: tuple[int, int]) -> tuple[Prompt | None, int]:
    """An annotated box with its corners sorted, and what is odd about it; None where it has no part on the image."""
    if any(is_outside(box, size) for box in prompt.boxes):
        return None, LEFT_OUT
    if all(x0 < x1 and y0 < y1 for x0, y0, x1, y1 in prompt.boxes):
        return prompt, 0
    ((x0, y0, x1, y1),) = prompt.boxes
    return Prompt.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), NO_EXTENT


def count_oddities(codes: np.ndarray) -> dict[str, int]:
    """How many queries have each oddity, by its description; codes [n] are 0 or a key of `ODDITIES`."""
    return {text: int((codes == code).sum()) for code, text in ODDITIES.items() if (codes == code).any()}


def write_oddities(name: str, oddities: Mapping[str, int]) -> None:
    """Write one line for each oddity of a data set."""
    for text, count in oddities.items():
        write(f"{name}: {text}: {count}.")


def no_query(data: Dataset) -> Unavailable:
    """The error where every query is left out."""
    return Unavailable(f"No query of {data.name} has a box on its image: restore its annotations.")


def _outline(query: Query, size: tuple[int, int]) -> Prompt | None:
    """The outline; None where there is none, where it has no pixel, and where it does not fit the image."""
    try:
        return None if query.mask is None else Prompt(mask=query.mask()).fit(size)
    except BadPrompt:
        return None


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
