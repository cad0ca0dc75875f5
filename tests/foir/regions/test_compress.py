"""Compression of regions, against an average linkage that is written out."""

import numpy as np
import pytest

from foir.regions.compress import merge_similar


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def literal_groups(vectors, limit):
    """Merge the two groups whose members' mean distance is least, until `limit` are left."""
    distances, groups = 1 - vectors.astype(float) @ vectors.T, [[row] for row in range(len(vectors))]
    while len(groups) > limit:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        a, b = min(pairs, key=lambda pair: distances[np.ix_(groups[pair[0]], groups[pair[1]])].mean())
        groups[b] += groups.pop(a)
    return groups


@pytest.fixture(scope="module", params=[0, 1])
def vectors(request):
    random = np.random.default_rng(request.param)
    centres = random.standard_normal((9, 24))
    return unit(centres[random.integers(0, 9, 44)] + 0.4 * random.standard_normal((44, 24)))


@pytest.mark.parametrize("limit", [1, 2, 7, 16, 43])
def test_it_is_average_linkage(vectors, limit):
    means, members = merge_similar(vectors, limit)
    groups = literal_groups(vectors, limit)
    expected = unit(np.stack([vectors[group].mean(0) for group in groups]))
    assert len(means) == len(groups) == limit and means.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, atol=1e-5)
    nearest = (means @ expected.T).argmax(1)
    assert sorted(nearest) == list(range(limit)) and (means * expected[nearest]).sum(1).min() > 0.99999
    for member, place in zip(members, nearest, strict=True):
        assert member in groups[place]
        near = vectors[groups[place]] @ expected[place]
        assert vectors[member] @ expected[place] == pytest.approx(near.max(), abs=2e-4)
    assert (np.diff(members) > 0).all()


def test_what_is_unlike_all_others_stays(vectors):
    alone = np.zeros((1, 24), np.float32)
    alone[0, 0] = 1
    others = vectors.copy()
    others[:, 0] = 0
    means, members = merge_similar(np.concatenate([unit(others), alone]), 4)
    assert 44 in members and (means @ alone[0]).max() == pytest.approx(1)


def test_few_stay_as_they_are(vectors):
    means, members = merge_similar(vectors[:16], 16)
    np.testing.assert_array_equal(means, vectors[:16])
    assert members.tolist() == list(range(16))


def test_of_two_that_are_equally_near_the_first_is_kept_whatever_the_rounding(vectors):
    random = np.random.default_rng(5)
    _, members = merge_similar(vectors, 30)
    for _ in range(5):
        rounded = unit(vectors + 1e-6 * random.standard_normal(vectors.shape))
        assert merge_similar(rounded, 30)[1].tolist() == members.tolist()


def test_equal_vectors_become_one():
    same = unit(np.ones((20, 8)))
    means, members = merge_similar(same, 4)
    assert 1 <= len(means) <= 4 and np.isfinite(means).all() and (means @ same[0]).min() > 0.9999
