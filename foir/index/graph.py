"""A graph over the region vectors of a large index (USearch's HNSW), which finds images near a vector without a scan.

It holds the vectors in eight bits, so what it finds is scored again exactly. The key of a region is its image's id and
its number there. A damaged graph can crash the library that reads it. So a graph is opened only where this machine
wrote it, after its digest was checked; it is never published, pulled or taken from a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from usearch.index import Index as UsearchIndex

GRAPH_ROWS = 800_000  # region vectors; fewer are scanned about as fast
ORDINAL_BITS = 8  # of a key: the region's number on its image
DTYPE, METRIC = "i8", "cos"
CONNECTIVITY, EXPANSION_ADD = 16, 64  # links of a vector, and vectors that are looked at when one is added
EXPANSION_SEARCH = 1024  # vectors that a search looks at; `foir eval bench regions` measures the recall


class RegionGraph:
    """An opened graph, memory-mapped. Safe to share between threads."""

    def __init__(self, path: Path, dim: int) -> None:
        """Map a graph of vectors of `dim` numbers.

        Raises:
            ValueError: It holds others.
        """
        self._graph = _restore(path, dim, view=True)

    def near(self, vectors: np.ndarray, count: int) -> list[int]:
        """Ids of the images of the `count` regions nearest to each of the vectors [n, dim], ascending."""
        found = [np.asarray(self._graph.search(vector.astype(np.float32), count).keys) for vector in vectors]
        return np.unique(np.concatenate(found).astype(np.int64) >> ORDINAL_BITS).tolist()


def open_for_change(path: Path | None, dim: int) -> UsearchIndex:
    """An existing graph in memory, or a new one."""
    if path is None:
        return UsearchIndex(
            ndim=dim, metric=METRIC, dtype=DTYPE, connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD
        )
    return _restore(path, dim, view=False)


def _restore(path: Path, dim: int, *, view: bool) -> UsearchIndex:
    graph = UsearchIndex.restore(str(path), view=view, expansion_add=EXPANSION_ADD, expansion_search=EXPANSION_SEARCH)
    if graph is None or graph.ndim != dim:
        raise ValueError("a graph of other vectors")
    return graph


def keys(ids: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Keys of the regions of some images, each of which has so many of them, uint64."""
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    ordinals = np.arange(int(counts.sum())) - firsts
    return (np.repeat(np.asarray(ids, np.int64), counts) << ORDINAL_BITS | ordinals).astype(np.uint64)
