"""Scores of images by their best region: one scan of all region vectors, then the maximum over each image's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foir.index.records import Regions
from foir.ranking import exact


@dataclass(frozen=True, eq=False)
class BestRegion:
    """The best region of one image: box, uint16 [4] (`foir.index.Regions`), cosine, unit vector, float32 [dim]."""

    box: np.ndarray
    score: float
    vector: np.ndarray


def best_scores(regions: Regions, vectors: np.ndarray) -> np.ndarray:
    """The score of each image's best region, float32 [n]; of several vectors of one thing the best one counts.

    The scan is in half precision, as the vectors are stored (`foir.ranking.exact.scan`). `best_regions` is exact.

    Args:
        regions: Of all images.
        vectors: Unit vectors of one thing, float32 [q, dim].
    """
    if not regions.vectors:
        return np.empty(0, np.float32)
    # One product of a matrix and a vector each: half matrices are multiplied far slower.
    best = np.maximum.reduce([exact.scan(regions.vectors, vector) for vector in vectors])
    shards = np.split(best, np.cumsum([len(shard) for shard in regions.vectors])[:-1])
    pairs = zip(shards, regions.starts, strict=True)
    return np.concatenate([np.maximum.reduceat(shard, starts[:-1]) for shard, starts in pairs])


def best_regions(regions: Regions, rows: Sequence[int], vectors: np.ndarray) -> list[BestRegion]:
    """The best region of some images, with its exact cosine; see `best_scores`."""
    found = []
    for row in rows:
        stored, boxes = regions.of_row(row)
        own = stored.astype(np.float32)
        scores = (own @ vectors.T).max(1)
        best = int(scores.argmax())
        found.append(BestRegion(boxes[best], float(scores[best]), own[best]))
    return found
