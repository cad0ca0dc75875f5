"""What patches learn about the boxes around them, and the loss of what they predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name
from torchvision.ops import generalized_box_iou_loss

MIN_SIDE, MAX_SIDE = 1.0, 20.0  # in patches, of the longer side of boxes that a scale learns
CENTRE = 0.25  # share of a box's sides: how far from its middle a patch may lie that learns its place
MIN_CENTRE = 0.75  # the same in patches, for small boxes


class Targets(NamedTuple):
    """What the patches of one scale of some pictures learn.

    Attributes:
        boxes: The box that each patch learns, in patches, float32 [..., rows, cols, 4].
        central: Patches that learn the place of their box, bool [..., rows, cols].
        inside: Patches that learn how well their box fits, bool [..., rows, cols].
        outside: Patches in no box at all, bool [..., rows, cols].
    """

    boxes: Tensor
    central: Tensor
    inside: Tensor
    outside: Tensor

    @classmethod
    def of(cls, boxes: np.ndarray, shape: tuple[int, int]) -> Targets:
        """Those of boxes (x0, y0, x1, y1) as fractions, [m, 4], on rows and columns of patches."""
        rows, cols = shape
        if not len(boxes):
            nothing = torch.zeros(shape, dtype=torch.bool)
            return cls(torch.zeros(*shape, 4), nothing, nothing, ~nothing)
        own = torch.from_numpy(boxes * [cols, rows, cols, rows]).float()
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(cols) + 0.5, indexing="ij")
        place = torch.stack([x, y], -1)[..., None, :]  # [rows, cols, 1, 2]
        low, high = own[:, :2], own[:, 2:]
        longer, areas = (high - low).amax(-1), (high - low).prod(-1)
        learnt = (longer >= MIN_SIDE) & (longer <= MAX_SIDE)
        around = ((place > low) & (place < high)).all(-1)
        reach = ((high - low) * CENTRE).clamp(min=MIN_CENTRE)
        central = ((place - (low + high) / 2).abs() <= reach).all(-1) & learnt
        # The smallest box of those in whose middle a patch lies, else of those around it.
        preference = torch.where(central, areas, torch.where(around & learnt, areas + rows * cols, torch.inf))
        smallest, chosen = preference.min(-1)
        return cls(own[chosen], central.any(-1), smallest < torch.inf, ~(around | central).any(-1))

    @classmethod
    def stack(cls, targets: Sequence[Targets]) -> Targets:
        """Those of several pictures, [B, rows, cols, ...]."""
        return cls(*map(torch.stack, zip(*targets, strict=True)))


def box_loss(boxes: Tensor, fits: Tensor, targets: Targets, background: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of what patches predict, each a mean over the patches that learn it.

    Args:
        boxes: Predicted, in patches, [..., 4].
        fits: Logits of their IoU with the right box, [...].
        targets: Of the same patches.
        background: Weight of patches outside all boxes, [...].

    Returns:
        The generalised IoU loss (arXiv 1902.09630) of the boxes, and the cross entropy of the fits.
    """
    place = generalized_box_iou_loss(boxes[targets.central], targets.boxes[targets.central], reduction="sum")
    weights = targets.inside + background * targets.outside
    truth = torch.where(targets.inside, overlaps(boxes.detach(), targets.boxes), 0.0)
    fit = (F.binary_cross_entropy_with_logits(fits, truth, reduction="none") * weights).sum()
    return place / targets.central.sum().clamp(min=1), fit / weights.sum().clamp(min=1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes [..., 4] with those at the same places."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / (areas - shared).clamp(min=1e-6)
