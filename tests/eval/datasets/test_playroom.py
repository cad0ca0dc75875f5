"""Playroom scenes: masks and boxes agree."""

import numpy as np

from eval import datasets
from eval.datasets.base import Dataset
from tests.eval.datasets.test_coco import box_of


def test_playroom_in_small_knows_the_mask_of_what_it_asks_for(monkeypatch):
    monkeypatch.setattr("eval.datasets.playroom.GALLERY", 3)
    monkeypatch.setattr("eval.datasets.playroom.QUERIES", 2)
    data = datasets.load("playroom", Dataset)
    assert data.queries and len(data.gallery) == 3
    for query in data.queries:
        assert query.mask is not None
        rows, cols = (np.flatnonzero(query.mask().any(axis)) for axis in (1, 0))
        assert box_of(query) == (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
