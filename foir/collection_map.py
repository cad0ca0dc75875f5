"""A map of a collection: where its pictures lie on a plane, in which clusters, and what these are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foir import clustering
from foir.index.protocol import IndexLike

POINTS = 3000  # most pictures on a map; of a larger collection an even sample
CLUSTERS = 12


@dataclass(frozen=True, eq=False)
class CollectionMap:
    """A map.

    Attributes:
        ids: Items on it, int [n].
        places: Where they lie, float [n, 2] in 0..1.
        clusters: Cluster of each, int [n].
        names: Of each cluster; "" where no caption tells.
        centres: The item nearest to the middle of each cluster.
    """

    ids: np.ndarray
    places: np.ndarray
    clusters: np.ndarray
    names: tuple[str, ...]
    centres: tuple[int, ...]


def build_map(index: IndexLike, clusters: int = CLUSTERS, points: int = POINTS) -> CollectionMap:
    """Draw the map of an index's pictures as they are pointed at."""
    items = index.sample(points)
    vectors = index.vectors("image", [item.id for item in items])
    found = clustering.kmeans(vectors, clusters)
    middles = [np.flatnonzero(found == cluster) for cluster in range(int(found.max()) + 1)]
    centres = [rows_[np.argmax(vectors[rows_] @ vectors[rows_].mean(0))] for rows_ in middles]
    return CollectionMap(
        np.array([item.id for item in items]),
        clustering.pca_2d(vectors),
        found,
        tuple(clustering.names(found, [item.caption for item in items])),
        tuple(items[place].id for place in centres),
    )
