"""Scores of images by their best region: one scan of all region vectors, then the maximum over each image's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foir.index.mmap import iter_shards
from foir.index.records import Regions

# Tensors of read-only maps are never written to here.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


@dataclass(frozen=True, eq=False)
class BestRegion:
    """The best region of one image: its box, uint16 [4] (`foir.index.Regions`), and its cosine."""

    box: np.ndarray
    score: float


def best_scores(regions: Regions, vectors: np.ndarray) -> np.ndarray:
    """The score of each image's best region, float32 [n]; of several vectors of one thing the best one counts.

    The scan is in half precision, as the vectors are stored: its error is at most 3e-4. `best_regions` is exact.

    Args:
        regions: Of all images.
        vectors: Unit vectors of one thing, float32 [q, dim].
    """
    parts = [np.empty(0, np.float32)]
    for number, shard in enumerate(iter_shards(regions.vectors)):
        rows = torch.from_numpy(np.asarray(shard))
        best = np.full(len(shard), -np.inf, np.float32)
        for vector in vectors:  # one product of a matrix and a vector each: half matrices are multiplied far slower
            product = torch.mv(rows, torch.from_numpy(vector).to(rows.dtype)).float().numpy()
            np.maximum(best, product, out=best)
        parts.append(np.maximum.reduceat(best, regions.starts[number][:-1]))
    return np.concatenate(parts)


def best_regions(regions: Regions, rows: Sequence[int], vectors: np.ndarray) -> list[BestRegion]:
    """The best region of some images, with its exact cosine; see `best_scores`."""
    found = []
    for row in rows:
        own, boxes = regions.of_row(row)
        scores = (own.astype(np.float32) @ vectors.T).max(1)
        best = int(scores.argmax())
        found.append(BestRegion(boxes[best], float(scores[best])))
    return found
