"""How well relevance maps cover masks at full resolution, from the maps' patches alone.

A map E is drawn at H x W pixels by bilinear interpolation, E' = R E C^T, so that its sums over a mask m are those of
its patches: sum(E' m) = <E, R^T m C>. Between two patches E' is linear along each axis, so that its extremes lie at
the first or last pixel between some two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

EMPTY = 1e-12  # below this a map says nothing anywhere


@dataclass(frozen=True, eq=False)
class Targets:
    """Masks, as far as maps of patches can tell.

    Attributes:
        inside: Weight of each patch in the sum over the mask, [K, rows, cols].
        area: Pixels of each mask, [K].
        whole: Weight of each patch in the sum over all pixels, [rows, cols].
        ends: Interpolation to the pixels where extremes can lie, [I, rows] and [J, cols].
    """

    inside: Tensor
    area: Tensor
    whole: Tensor
    ends: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, masks: Tensor, grid: tuple[int, int]) -> Targets:
        """Targets of masks, 0 or 1, [K, H, W], for maps of `grid` patches."""
        rows, cols = (_interpolation(n, size).to(masks) for n, size in zip(grid, masks.shape[1:], strict=True))
        return cls(
            rows.T @ masks @ cols, masks.sum((1, 2)), rows.sum(0)[:, None] * cols.sum(0), (_ends(rows), _ends(cols))
        )

    def stretched(self, maps: Tensor, together: Tensor | None = None) -> Tensor:
        """Maps whose extremes over all pixels are 0 and 1.

        Args:
            maps: [K, rows, cols].
            together: Groups that share their extremes, [K]; else each map has its own.
        """
        extremes = self.ends[0] @ maps @ self.ends[1].T
        low, high = extremes.amin((1, 2)), extremes.amax((1, 2))
        if together is not None:
            count = int(together.max()) + 1
            low = low.new_zeros(count).scatter_reduce(0, together, low, "amin", include_self=False)[together]
            high = high.new_zeros(count).scatter_reduce(0, together, high, "amax", include_self=False)[together]
        return (maps - low[:, None, None]) / (high - low).clamp(min=EMPTY)[:, None, None]

    def soft_iou(self, maps: Tensor) -> Tensor:
        """sum(E m) / sum(E + m - E m) of stretched maps, [K]; 1 where a map is its mask."""
        both, drawn = self._sums(maps)
        return both / (drawn + self.area - both).clamp(min=EMPTY)

    def dice(self, maps: Tensor) -> Tensor:
        """2 sum(E m) / sum(E + m) of the same."""
        both, drawn = self._sums(maps)
        return (2 * both + 1e-6) / (drawn + self.area + 1e-6)

    def _sums(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return (maps * self.inside).sum((1, 2)), (maps * self.whole).sum((1, 2))


def _interpolation(count: int, size: int) -> Tensor:
    """Bilinear interpolation along one axis, pixels by patches, [size, count]."""
    patches = torch.eye(count, dtype=torch.float64)[None]
    return F.interpolate(patches, size, mode="linear", align_corners=False)[0].T


def _ends(pixels: Tensor) -> Tensor:
    """The first and the last pixel between each two patches."""
    between = (pixels.shape[1] * (torch.arange(len(pixels)) + 0.5) / len(pixels) - 0.5).floor()
    turn = between[1:] != between[:-1]
    last, first = torch.ones(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    return pixels[torch.cat([first, turn]) | torch.cat([turn, last])]
