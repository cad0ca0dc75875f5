"""Clusters of a collection: k-means, how well it fits known classes, names from captions, and a flat map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

COMMON = frozenset(("and", "for", "her", "his", "its", "that", "the", "their", "this", "two", "with", "some"))


def kmeans(vectors: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """Cluster of each row of float [n, d], int [n]; Euclidean k-means, the best of ten starts.

    Args:
        vectors: Unit vectors or not: what they are is what is clustered.
        k: How many clusters, at most n.
        seed: Of the starts.
    """
    from sklearn.cluster import KMeans

    return KMeans(min(k, len(vectors)), n_init=10, max_iter=300, random_state=seed).fit_predict(vectors)


def scores(found: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """ACC, NMI and ARI of clusters against classes, both int [n], in 0..1 (ARI can be negative).

    ACC is the share of rows whose cluster's class is theirs, under the best one-to-one assignment of clusters to
    classes; NMI is normalised by the arithmetic mean.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(classes, found)
    rows, columns = linear_sum_assignment(-table)
    return {
        "ACC": float(table[rows, columns].sum() / len(classes)),
        "NMI": float(normalized_mutual_info_score(classes, found)),
        "ARI": float(adjusted_rand_score(classes, found)),
    }


def names(found: np.ndarray, captions: Sequence[str | None], words: int = 3) -> list[str]:
    """A name for each cluster: the words that its captions use more than others do; "" where there are none."""
    used = [_words(caption or "") for caption in captions]
    everywhere = Counter(word for some in used for word in some)
    made = []
    for cluster in range(int(found.max()) + 1 if len(found) else 0):
        own = Counter(word for row in np.flatnonzero(found == cluster) for word in used[row])
        lift = {word: count * np.log(1 + count / everywhere[word]) for word, count in own.items() if count > 1}
        best = sorted(lift, key=lambda word: (-lift[word], word))[:words]
        made.append(", ".join(best))
    return made


def pca_2d(vectors: np.ndarray) -> np.ndarray:
    """Rows of float [n, d] on a plane, [n, 2] in 0..1: their two leading principal components."""
    centred = vectors - vectors.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    places = centred @ directions[:, -2:][:, ::-1]
    low, high = places.min(0), places.max(0)
    return (places - low) / np.maximum(high - low, 1e-12)


def _words(caption: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]{3,}", caption.lower()) if word not in COMMON}


def near_duplicates(vectors: np.ndarray, least: float = 0.97) -> list[int]:
    """For each unit vector, best first, the place of the first one that it is nearly a copy of, or its own.

    Args:
        vectors: float [n, d].
        least: Cosine from which two pictures are near copies.
    """
    alike = vectors @ vectors.T >= least
    firsts: list[int] = []
    for place in range(len(vectors)):
        originals = [other for other in range(place) if firsts[other] == other and alike[place, other]]
        firsts.append(originals[0] if originals else place)
    return firsts
