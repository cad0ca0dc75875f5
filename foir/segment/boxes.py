"""Boxes (x0, y0, x1, y1): how far they overlap, and which of many to keep."""

from __future__ import annotations

import numpy as np


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box [4] with others [n, 4], [n]; 0 where both are empty."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.divide(both, areas - both, out=np.zeros(len(boxes)), where=areas > both)


def nms(boxes: np.ndarray, scores: np.ndarray, apart: float) -> list[int]:
    """Places of the boxes that no better one overlaps by more than `apart`, best first (non-maximum suppression)."""
    kept: list[int] = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        kept.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) <= apart]
    return kept
