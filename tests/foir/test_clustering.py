"""Clustering: its scores against slow literal ones, names from captions, the flat map."""

from itertools import permutations

import numpy as np
import pytest

from foir import clustering


def blobs(seed=0):
    rng = np.random.default_rng(seed)
    centres = 8 * rng.standard_normal((4, 6))
    classes = np.repeat(np.arange(4), 25)
    return centres[classes] + 0.3 * rng.standard_normal((100, 6)), classes


def test_clear_clusters_are_found():
    vectors, classes = blobs()
    found = clustering.kmeans(vectors, 4)
    assert clustering.clustering_scores(found, classes) == {
        "ACC": 1.0,
        "NMI": pytest.approx(1),
        "ARI": pytest.approx(1),
    }
    assert (clustering.kmeans(vectors, 4, seed=3) == clustering.kmeans(vectors, 4, seed=3)).all()
    assert len(set(clustering.kmeans(vectors[:3], 9))) == 3


def test_accuracy_is_of_the_best_assignment():
    rng = np.random.default_rng(0)
    classes, found = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    best = max(np.mean(np.array(order)[found] == classes) for order in permutations(range(4)))
    assert clustering.clustering_scores(found, classes)["ACC"] == pytest.approx(best)
    few = clustering.clustering_scores(np.zeros(60, int), classes)
    assert few["ACC"] == pytest.approx(np.bincount(classes).max() / 60) and few["NMI"] == 0


def test_information_and_rand_index_are_their_definitions():
    rng = np.random.default_rng(1)
    classes, found = rng.integers(0, 3, 50), rng.integers(0, 5, 50)
    joint = np.array([[np.mean((classes == c) & (found == f)) for f in range(5)] for c in range(3)])
    pc, pf = joint.sum(1), joint.sum(0)
    mutual = sum(joint[c, f] * np.log(joint[c, f] / pc[c] / pf[f]) for c in range(3) for f in range(5) if joint[c, f])
    entropy = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in (pc, pf)]
    got = clustering.clustering_scores(found, classes)
    assert got["NMI"] == pytest.approx(mutual / np.mean(entropy))
    pairs = [(i, j) for i in range(50) for j in range(i)]
    same = np.array([[classes[i] == classes[j], found[i] == found[j]] for i, j in pairs])
    both, one, other = (same.all(1).sum(), same[:, 0].sum(), same[:, 1].sum())
    expected = one * other / len(pairs)
    assert got["ARI"] == pytest.approx((both - expected) / ((one + other) / 2 - expected))


def test_clusters_are_named_by_what_is_theirs():
    found = np.array([0, 0, 0, 1, 1, 1])
    captions = [
        "a red apple on a table",
        "an apple and a pear",
        "red apple",
        "a dog on a table",
        "two dogs, a dog",
        None,
    ]
    assert clustering.cluster_names(found, captions) == ["apple, red", "dog"]
    assert clustering.cluster_names(found, [None] * 6) == ["", ""]


def test_the_map_keeps_what_is_far_apart_far_apart():
    vectors, classes = blobs()
    places = clustering.pca_2d(vectors)
    assert places.shape == (100, 2) and places.min() == 0 and places.max() == 1
    centres = np.stack([places[classes == c].mean(0) for c in range(4)])
    inner = max(places[classes == c].std() for c in range(4))
    assert min(np.linalg.norm(centres[a] - centres[b]) for a in range(4) for b in range(a)) > inner / 4
    centred = vectors - vectors.mean(0)
    first = np.linalg.svd(centred, full_matrices=False)[2][0]
    assert abs(np.corrcoef(places[:, 0], centred @ first)[0, 1]) == pytest.approx(1)


def test_near_copies_point_at_the_first_of_them():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((3, 16))
    vectors = np.concatenate([base, base[[1, 0, 1]] + 0.01 * rng.standard_normal((3, 16))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert clustering.near_duplicates(vectors) == [0, 1, 2, 1, 0, 1]
    assert clustering.near_duplicates(vectors[:0]) == []
