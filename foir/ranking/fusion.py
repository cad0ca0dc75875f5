"""Fusion of the scores of several parts of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """Raw scores of one part of a query.

    Attributes:
        weight: Of its standard scores. A part of negative weight counts only where its standard score is positive: an
            image gains nothing by showing less than the average of the unwanted content.
        scores: Of each image, [n].
        reference: Scores whose mean and deviation are the standard; those of all n images if left out.
    """

    weight: float
    scores: np.ndarray
    reference: np.ndarray | None = None

    def standard(self, scores: np.ndarray) -> np.ndarray:
        """Weighted standard scores, float32, of raw ones; zeros where the standard has no spread."""
        reference = self.scores if self.reference is None else self.reference
        spread = float(reference.std())
        if not spread > 0:
            return np.zeros(len(scores), np.float32)
        standard = (scores - reference.mean()) / spread
        return np.asarray(self.weight * (np.maximum(standard, 0) if self.weight < 0 else standard), np.float32)


def zscore_fuse(parts: Sequence[Part]) -> np.ndarray:
    """The weighted sum of the parts' standard scores, float32 [n]."""
    total = np.zeros(len(parts[0].scores), np.float32)
    for part in parts:
        total += part.standard(part.scores)
    return total
