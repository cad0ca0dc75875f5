"""Region rows of Milvus, grouped to images, with a collection made here."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from foir import BadIndex
from foir.index.format import BOX
from foir.index.milvus_client import MAX_RESULTS
from foir.index.milvus_regions import RegionRows


class Rows:
    """A collection of (item, score) pairs, the best first."""

    name = "foir_regions"

    def __init__(self, pairs):
        self.pairs, self.limits, self.filters = pairs, [], []

    def count(self):
        return len(self.pairs)

    def search(self, field, vectors, limit, *, fields):
        self.limits.append(limit)
        return [{"distance": score, "entity": {"item": item}} for item, score in self.pairs[:limit]]

    def query(self, fields, *, filter):
        self.filters.append(filter)
        box = dict.fromkeys(BOX, 9)
        rows = [{"id": n, "item": item, "vector": [score, 0.0], **box} for n, (item, score) in enumerate(self.pairs)]
        return [row for row in reversed(rows) if row["item"] in eval(filter.removeprefix("item in "))]


def region_rows(pairs, images):
    rows: Any = Rows(pairs)
    return rows, RegionRows(rows, cast(Any, SimpleNamespace(region_count=len(pairs), count=images)))


def test_more_regions_are_asked_for_until_enough_images_have_one():
    rows, regions = region_rows([(0, 0.9)] * 30 + [(1, 0.8), (0, 0.7), (2, 0.6), (3, 0.5)] * 5, 4)
    assert regions.near(np.ones((1, 2), np.float32), 2, list) == [0, 1]
    assert rows.limits == [8, 32]
    assert regions.near(np.ones((1, 2), np.float32), 2, lambda ids: [id for id in ids if id > 1]) == [2, 3]
    assert rows.limits[2:] == [8, 32, 50]
    assert regions.near(np.ones((1, 2), np.float32), 9, list) == [0, 1, 2, 3]


def test_no_search_asks_for_more_than_milvus_allows():
    rows, regions = region_rows([(0, 0.9)] * (MAX_RESULTS + 5), 2)
    assert regions.near(np.ones((1, 2), np.float32), 2, list) == [0]
    assert max(rows.limits) == MAX_RESULTS


def test_regions_come_in_the_order_of_their_images(monkeypatch):
    monkeypatch.setattr("foir.index.milvus_regions.REQUEST_ROWS", 4)
    rows, regions = region_rows([(3, 0.25), (3, 0.5), (1, 0.75), (2, 1.0), (1, 0.125)], 3)
    found = regions.of([1, 2, 3], "{}")
    assert len(rows.filters) == 2
    assert found.vectors[0][:, 0].tolist() == [0.75, 0.125, 1.0, 0.25, 0.5] and found.vectors[0].dtype == np.float16
    assert found.starts[0].tolist() == [0, 2, 3, 5] and found.boxes[0].tolist() == [[9] * 4] * 5
    with pytest.raises(BadIndex, match="lacks regions"):
        regions.of([1, 2, 4], "{}")


def test_a_collection_with_other_rows_is_refused():
    rows, _ = region_rows([(0, 0.9)], 1)
    with pytest.raises(BadIndex, match="build the index again"):
        RegionRows(rows, cast(Any, SimpleNamespace(region_count=2, count=1)))
