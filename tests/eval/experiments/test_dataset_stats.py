"""Shares of images by their number of objects."""

import pytest

from eval import datasets
from eval.datasets.base import InstanceDataset
from eval.experiments.dataset_stats import DatasetStats, InstanceStats
from eval.experiments.specs import RunContext
from eval.report import published
from tests.eval.datasets.test_voxdet import write_voxdet


def test_counting_gives_shares_of_pictures(crowded):
    found = DatasetStats("c", "", ()).measure(crowded, None, RunContext())
    shares = {cell.options["objects"]: cell.value for cell in found if cell.method == "count"}
    assert shares["1"] == pytest.approx(100 * 5 / 16) and shares["12"] == pytest.approx(100 / 16)
    assert sum(share or 0 for share in shares.values()) == pytest.approx(100)
    assert all(cell.n == 16 for cell in found)


def test_the_papers_facts_stand_beside_ours(crowded, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "PASCAL VOC")
    cells = DatasetStats("c", "", ()).measure(crowded, None, RunContext())
    theirs = {cell.metric: (cell.value, cell.published) for cell in cells if cell.published is not None}
    assert theirs == {
        "query images": (16, 4952),
        "gallery images": (16, 16551),
        "categories": (4, 20),
        "share of pictures": (pytest.approx(100 * 5 / 16), 38),
        "of mean width and height": (pytest.approx(100 * (40 / 160 + 40 / 120) / 2), 9.4),
    }


def test_objects_on_scenes_are_counted_and_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_voxdet(tmp_path)
    data = datasets.load("voxdet", InstanceDataset)
    cells = InstanceStats("c", "", ()).measure(data, None, RunContext())
    assert {cell.metric: (cell.value, cell.published) for cell in cells} == {
        "query": (2, None),
        "gallery": (2, None),
        "test instances": (2, 20),
        "test annotations": (2, 9109),
        "annotated objects per image": (1, 5.8),
        "mean object size percent of image": (pytest.approx(100 * 30 * 40 / (200 * 150)), 1.1),
    }
    first = InstanceStats("c", "", ()).measure(data, None, RunContext(limit=1))
    assert {cell.metric: cell.published for cell in first if cell.value == 1} == {
        "test annotations": None,  # of the whole data set
        "annotated objects per image": None,
    }
