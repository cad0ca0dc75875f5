"""Ranking on the device equals the index."""

import numpy as np
import pytest

from eval.experiments import gallery
from eval.experiments.results_cache import ResultsCache
from eval.metrics import ranking
from foir.encoders.intervention import HeadGate
from foir.ranking import exact, head_cache


@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_ranking_on_the_device_equals_the_index(made, toy, tmp_path, mode, monkeypatch):
    monkeypatch.setattr(ranking, "QUERIES", 3)
    kept = gallery.encode_gallery(toy, made, ResultsCache(tmp_path))
    vectors = np.concatenate(kept.shards)[:8] + 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gates = [HeadGate(tuple(2.0 * ((i + j) % 2) for j in range(6))) for i in range(8)]
    rows = ranking.rank(toy, kept, mode, gates, vectors, 6)
    if mode == "query":
        expected = exact.search(kept.shards, vectors, 6).rows
    else:
        expected = head_cache.search(toy, kept, gates, vectors, 6).rows
    np.testing.assert_array_equal(rows, expected)


def test_equal_scores_come_in_row_order():
    same = np.ones((9, 2), np.float32)
    blocks = [same[:4], same[4:]]
    assert ranking.nearest(blocks, same[:1], 9, "cpu").tolist() == [list(range(9))]


def test_of_equal_scores_at_the_limit_the_first_rows_are_taken_on_every_device():
    """A device's own top-k takes any of them: 500 copies of one image, below two better ones."""
    gallery = np.full((500, 2), 0.5, np.float32)
    gallery[300], gallery[20] = 0.7, 0.6
    query = np.ones((2, 2), np.float32)
    assert ranking.nearest([gallery[:250], gallery[250:]], query, 5, "cpu").tolist() == [[300, 20, 0, 1, 2]] * 2
