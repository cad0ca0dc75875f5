"""A map of a collection: 2-D positions of its images, their clusters, and names of the clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foir import clustering
from foir.index.protocol import IndexLike

MAX_POINTS = 3000  # images on a map; a larger collection is sampled evenly
CLUSTERS = 12


@dataclass(frozen=True, eq=False)
class CollectionMap:
    """A map.

    Attributes:
        ids: Items on it, int [n].
        positions: Position of each, float [n, 2] in 0..1.
        clusters: Cluster of each, int [n].
        names: Name of each cluster; "" if no caption gives one.
        centres: The item nearest to each cluster's mean.
    """

    ids: np.ndarray
    positions: np.ndarray
    clusters: np.ndarray
    names: tuple[str, ...]
    centres: tuple[int, ...]


def build_map(index: IndexLike, clusters: int = CLUSTERS, max_points: int = MAX_POINTS) -> CollectionMap:
    """Build the map of an index's images from their search vectors."""
    items = index.sample(max_points)
    vectors = index.vectors("image", [item.id for item in items])
    labels = clustering.kmeans(vectors, clusters)
    members = [np.flatnonzero(labels == cluster) for cluster in range(int(labels.max()) + 1)]
    centres = [rows[np.argmax(vectors[rows] @ vectors[rows].mean(0))] for rows in members]
    return CollectionMap(
        np.array([item.id for item in items]),
        clustering.pca_2d(vectors),
        labels,
        tuple(clustering.cluster_names(labels, [item.caption for item in items])),
        tuple(items[row].id for row in centres),
    )
