"""Compression of a picture's regions: those that are alike become one vector, those that are unlike stay."""

from __future__ import annotations

import numpy as np

from foir.errors import BadIndex

TIE = 1e-4  # of cosines


def merge_similar(vectors: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge unit vectors until at most `limit` are left: average linkage on their cosines.

    Args:
        vectors: Unit vectors, float32 [n, dim].
        limit: Number of vectors to keep, at least 1.

    Returns:
        Unit mean of each group, float32 [m, dim], and the first member that is nearest to it, int [m], ascending.

    Raises:
        BadIndex: A value is not finite.
    """
    if len(vectors) <= limit:
        return vectors, np.arange(len(vectors))
    if not np.isfinite(vectors).all():
        raise BadIndex("The encoder gave values that are no numbers: try --dtype float32.")
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second, which a search does not need

    distances = 1 - vectors @ vectors.T
    condensed = np.maximum(distances[np.triu_indices(len(vectors), 1)], 0)
    groups = fcluster(linkage(condensed, "average"), limit, "maxclust")
    means, members = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        mean = vectors[rows].mean(0)
        means.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
        near = vectors[rows] @ means[-1]
        members.append(rows[np.argmax(near >= near.max() - TIE)])  # two are equally near: rounding must not choose
    order = np.argsort(members)
    return np.stack(means)[order].astype(np.float32), np.array(members)[order]
