"""Fusion of the scores of several parts of a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def zscore_fuse(parts: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """The weighted sum of standard scores, float32 [n], of several parts' raw scores [n].

    A part of negative weight counts only where its standard score is positive: an image gains nothing by
    showing less than the average of the unwanted content.
    """
    total = np.zeros(len(parts[0][1]), np.float32)
    for weight, scores in parts:
        spread = float(scores.std())
        if spread > 0:
            standard = (scores - scores.mean()) / spread
            total += weight * (np.maximum(standard, 0) if weight < 0 else standard)
    return total
