"""The types that all segmenters share, and the points of a prompt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from foir.patches import PatchMask
from foir.prompts import Prompt

STROKE_POINTS = 8  # points sampled along a stroke
Outline = Callable[[Prompt, PatchMask], np.ndarray]  # a prompt on one image to the object's pixels, bool [H, W]
Segmenter = Callable[[Image.Image], Outline]  # the expensive step, once for each RGB image


def click_points(prompt: Prompt, size: tuple[int, int]) -> list[tuple[float, float]]:
    """The points of a prompt, and a few along each of its strokes that lie on the image of (width, height)."""
    points = list(prompt.points)
    for stroke in prompt.strokes:
        path = [(x, y) for x, y in stroke.path if 0 <= x <= size[0] and 0 <= y <= size[1]]
        indices = np.linspace(0, len(path) - 1, STROKE_POINTS).round().astype(int) if path else ()
        points += [path[i] for i in dict.fromkeys(indices)]
    return points
