"""Close-ups: what a query points at, seen again from nearer and in a mirror.

A picture of an index is seen once, and the same thing is larger on one picture than on the next, or faces the other
way. Looking at it more than once costs the query some milliseconds and the index nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from foir.patches import Crop, PatchMask


@dataclass(frozen=True)
class CloseUp:
    """How a thing is seen again: with sides of `zoom` (0 to 1) of the picture's, perhaps mirrored."""

    zoom: float
    mirrored: bool = False


CLOSE_UPS = (CloseUp(0.8), CloseUp(0.6, mirrored=True))  # chosen on dev data (docs/results.md)


def take_close_ups(
    image: Image.Image, mask: PatchMask, views: Sequence[CloseUp] = CLOSE_UPS
) -> list[tuple[Image.Image, PatchMask]]:
    """The picture cut around a thing, once for each view, with the thing's own mask there.

    Each keeps the picture's shape, is moved where it would leave the picture, and holds the whole thing: one that is
    larger than the zoom is seen from as near as it allows.
    """
    found = []
    for view in views:
        rows, cols = frame(mask, view.zoom)
        near, part = image.crop((cols.start, rows.start, cols.stop, rows.stop)), mask.cut((rows, cols))
        found.append((ImageOps.mirror(near), part.mirrored()) if view.mirrored else (near, part))
    return found


def frame(mask: PatchMask, zoom: float) -> Crop:
    """The rows and columns of the picture that a close-up shows."""
    x0, y0, x1, y1 = mask.box
    scale = max(zoom, (x1 - x0) / mask.size[0], (y1 - y0) / mask.size[1])
    spans = []
    for low, high, length in ((y0, y1, mask.size[1]), (x0, x1, mask.size[0])):
        extent = min(max(round(scale * length), high - low), length)
        start = min(max(round((low + high - extent) / 2), 0), length - extent)
        spans.append(slice(start, start + extent))
    return spans[0], spans[1]
