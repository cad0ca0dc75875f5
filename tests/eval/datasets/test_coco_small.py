"""coco_small has the numbers that its README states."""

import os
from pathlib import Path

import pytest

from eval import datasets
from eval.datasets.base import Dataset
from eval.experiments import prompted_retrieval


def test_coco_small_is_read_as_its_readme_says():
    folder = Path(os.environ.get("FOIR_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco_small"
    if not folder.exists():
        pytest.skip(f"coco_small is not at {folder}")
    data = datasets.load("coco_small", Dataset)
    assert len(data.gallery) == 435
    assert len(data.categories) == 80
    assert len(data.queries) == 3281
    assert prompted_retrieval.perfect_precision(data, 10) == pytest.approx(79.6, abs=0.05)
    image = data.query_images[data.queries[0].image]()
    assert not data.queries[0].prompt.fit(image.size).empty
