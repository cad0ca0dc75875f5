"""Shares of images by their number of objects."""

import pytest

from eval.experiments.dataset_stats import DatasetStats
from eval.experiments.specs import RunContext


def test_counting_gives_shares_of_pictures(crowded):
    found = DatasetStats("c", "", ()).measure(crowded, None, RunContext())
    shares = {cell.options["objects"]: cell.value for cell in found}
    assert shares["1"] == pytest.approx(100 * 5 / 16) and shares["12"] == pytest.approx(100 / 16)
    assert sum(share or 0 for share in shares.values()) == pytest.approx(100)
    assert all(cell.n == 16 for cell in found)
