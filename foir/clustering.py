"""Clusters of a collection: k-means, agreement with known classes, names from captions, and a 2-D projection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

STOP_WORDS = frozenset(("and", "for", "her", "his", "its", "that", "the", "their", "this", "two", "with", "some"))


def kmeans(vectors: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """Cluster of each row of float [n, d], int [n]; Euclidean k-means, the best of ten starts.

    Args:
        vectors: Used as they are, without normalisation.
        k: Number of clusters, at most n.
        seed: Random seed of the starts.
    """
    from sklearn.cluster import KMeans

    return KMeans(min(k, len(vectors)), n_init=10, max_iter=300, random_state=seed).fit_predict(vectors)


def clustering_scores(clusters: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """ACC, NMI and ARI of clusters against classes, both int [n], in 0..1 (ARI can be negative).

    ACC is the share of rows whose cluster is assigned to their class, under the best one-to-one assignment; NMI is
    normalised by the arithmetic mean.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(classes, clusters)
    rows, columns = linear_sum_assignment(-table)
    return {
        "ACC": float(table[rows, columns].sum() / len(classes)),
        "NMI": float(normalized_mutual_info_score(classes, clusters)),
        "ARI": float(adjusted_rand_score(classes, clusters)),
    }


def cluster_names(clusters: np.ndarray, captions: Sequence[str | None], words: int = 3) -> list[str]:
    """A name for each cluster: the words that are most typical of its captions; "" if there are none."""
    caption_words = [_words(caption or "") for caption in captions]
    totals = Counter(word for row in caption_words for word in row)
    names = []
    for cluster in range(int(clusters.max()) + 1 if len(clusters) else 0):
        counts = Counter(word for row in np.flatnonzero(clusters == cluster) for word in caption_words[row])
        lift = {word: count * np.log(1 + count / totals[word]) for word, count in counts.items() if count > 1}
        names.append(", ".join(sorted(lift, key=lambda word: (-lift[word], word))[:words]))
    return names


def pca_2d(vectors: np.ndarray) -> np.ndarray:
    """The two leading principal components of rows float [n, d], [n, 2] scaled to 0..1."""
    centred = vectors - vectors.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    points = centred @ directions[:, -2:][:, ::-1]
    low, high = points.min(0), points.max(0)
    return (points - low) / np.maximum(high - low, 1e-12)


def _words(caption: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]{3,}", caption.lower()) if word not in STOP_WORDS}


def near_duplicates(vectors: np.ndarray, min_cosine: float = 0.97) -> list[int]:
    """For each unit vector, best first, the index of the first one that it nearly duplicates, or its own.

    Args:
        vectors: float [n, d].
        min_cosine: Cosine from which two images are near duplicates.
    """
    similar = vectors @ vectors.T >= min_cosine
    firsts: list[int] = []
    for i in range(len(vectors)):
        firsts.append(next((other for other in range(i) if firsts[other] == other and similar[i, other]), i))
    return firsts
