"""Overlap of relevance maps and masks at full resolution, computed from the maps' patches alone.

A map E is drawn at H x W pixels by bilinear interpolation, E' = R E C^T, so that its sums over a mask m are those of
its patches: sum(E' m) = <E, R^T m C>. Between two patches E' is linear along each axis, so that its extremes lie at
the first or last pixel between two neighbouring patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

EPSILON = 1e-12  # a map with a smaller range is constant


@dataclass(frozen=True, eq=False)
class Targets:
    """Masks, reduced to what sums and extremes of patch maps need.

    Attributes:
        inside: Weight of each patch in the sum over the mask, [K, rows, cols].
        area: Pixels of each mask, [K].
        whole: Weight of each patch in the sum over all pixels, [rows, cols].
        extremes: Interpolation to the pixels where extremes can lie, [I, rows] and [J, cols].
    """

    inside: Tensor
    area: Tensor
    whole: Tensor
    extremes: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, masks: Tensor, grid: tuple[int, int]) -> Targets:
        """Targets of masks, 0 or 1, [K, H, W], for maps of `grid` patches."""
        rows, cols = (_interpolation(n, size).to(masks) for n, size in zip(grid, masks.shape[1:], strict=True))
        whole, extremes = rows.sum(0)[:, None] * cols.sum(0), (_extremes(rows), _extremes(cols))
        return cls(rows.T @ masks @ cols, masks.sum((1, 2)), whole, extremes)

    def normalise(self, maps: Tensor, groups: Tensor | None = None) -> Tensor:
        """Scale maps so that their extremes over all pixels are 0 and 1.

        Args:
            maps: [K, rows, cols].
            groups: Groups of maps that share their extremes, [K]; otherwise each map has its own.
        """
        values = self.extremes[0] @ maps @ self.extremes[1].T
        low, high = values.amin((1, 2)), values.amax((1, 2))
        if groups is not None:
            count = int(groups.max()) + 1
            low = low.new_zeros(count).scatter_reduce(0, groups, low, "amin", include_self=False)[groups]
            high = high.new_zeros(count).scatter_reduce(0, groups, high, "amax", include_self=False)[groups]
        return (maps - low[:, None, None]) / (high - low).clamp(min=EPSILON)[:, None, None]

    def soft_iou(self, maps: Tensor) -> Tensor:
        """sum(E m) / sum(E + m - E m) of normalised maps, [K]; 1 where a map equals its mask."""
        both, total = self._sums(maps)
        return both / (total + self.area - both).clamp(min=EPSILON)

    def dice(self, maps: Tensor) -> Tensor:
        """2 sum(E m) / sum(E + m) of normalised maps, [K]."""
        both, total = self._sums(maps)
        return (2 * both + 1e-6) / (total + self.area + 1e-6)

    def _sums(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return (maps * self.inside).sum((1, 2)), (maps * self.whole).sum((1, 2))


def _interpolation(count: int, size: int) -> Tensor:
    """Bilinear interpolation along one axis, pixels by patches, [size, count]."""
    patches = torch.eye(count, dtype=torch.float64)[None]
    return F.interpolate(patches, size, mode="linear", align_corners=False)[0].T


def _extremes(pixels: Tensor) -> Tensor:
    """The first and the last pixel between each two patches."""
    between = (pixels.shape[1] * (torch.arange(len(pixels)) + 0.5) / len(pixels) - 0.5).floor()
    change, edge = between[1:] != between[:-1], torch.ones(1, dtype=torch.bool)
    return pixels[torch.cat([edge, change]) | torch.cat([change, edge])]
