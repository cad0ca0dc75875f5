"""Playroom scenes: masks and boxes agree."""

import numpy as np

from eval import datasets
from eval.datasets import playroom
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


def test_things_are_all_objects_and_dev_scenes_are_scenes_of_their_own(monkeypatch):
    for name, count in (("GALLERY", 3), ("QUERIES", 2), ("DEV_GALLERY", 3), ("DEV_QUERIES", 2), ("RAREST", 1)):
        monkeypatch.setattr(f"eval.datasets.playroom.{name}", count)
    few, things, dev = (datasets.load(name, Dataset) for name in ("playroom", "playroom-things", "playroom-dev"))
    assert {box_of(query) for query in few.queries} < {box_of(query) for query in things.queries}
    assert things.shared_gallery == few.shared_gallery != dev.shared_gallery
    pictures = [load().tobytes() for data in (things, dev) for load in (*data.gallery, *data.query_images)]
    assert len(set(pictures)) == 10


def test_a_toy_is_searched_for_where_enough_scenes_show_it(monkeypatch):
    monkeypatch.setattr("eval.datasets.playroom.DEV_GALLERY", 12)
    monkeypatch.setattr("eval.datasets.playroom.DEV_QUERIES", 2)
    build = playroom._build
    counts = [len(build("x", playroom._toy, rarest, playroom.ANY, dev=True).queries) for rarest in (0, 1, 2)]
    assert counts[0] > counts[1] >= counts[2]
