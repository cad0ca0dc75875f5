"""COCO from parquet files of the Hub's schema."""

import io
import shutil

import datasets as hf
import numpy as np
import pytest
from PIL import Image

from eval import datasets
from eval.datasets import coco_hub
from eval.datasets.base import Dataset
from foir import Unavailable
from tests.conftest import scene
from tests.eval.datasets.test_coco import box_of


@pytest.fixture
def hub_copy(tmp_path, monkeypatch):
    """Writes a parquet repository of the Hub's schema into a local Hub cache."""
    cache, commit = tmp_path / "hub" / "datasets--detection-datasets--coco", "b8d48b594d744980730f3980efeb278b6e4627db"
    data = cache / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "tables"))
    kinds = hf.ClassLabel(names=["cat", "cup"])
    thing = {
        "bbox_id": hf.Value("int64"), "category": kinds, "bbox": hf.List(hf.Value("float64"), length=4),
        "area": hf.Value("float64"),
    }  # fmt: skip
    kind = hf.Features(
        image=hf.Image(), image_id=hf.Value("int64"), width=hf.Value("int64"), height=hf.Value("int64"),
        objects=hf.Sequence(thing),
    )  # fmt: skip

    def write(**splits):
        for split, rows in splits.items():
            made = [
                {"image": scene(i, (60, 40)), "image_id": i, "width": 60, "height": 40, "objects": {
                    "bbox_id": list(range(len(things))), "category": [what for what, _ in things],
                    "bbox": [box for _, box in things], "area": [1.0] * len(things),
                }}
                for i, things in enumerate(rows)
            ]  # fmt: skip
            table = hf.Dataset.from_list(made, features=kind)
            table.to_parquet(data / f"{split}-00000-of-00001-7af5414a3b178949.parquet")
        return data

    return write


@pytest.mark.parametrize("sizes", [False, True])
def test_coco_from_the_hub_knows_corners_from_sizes(hub_copy, sizes):
    corners = [[(1, [5.0, 5, 50, 38]), (0, [10.0, 20, 30, 35])], [(0, [0.0, 0, 1, 40])]]
    asked = [[(k, [x0, y0, x1 - x0, y1 - y0] if sizes else [x0, y0, x1, y1]) for k, (x0, y0, x1, y1) in row]
             for row in corners]  # fmt: skip
    hub_copy(val=asked, train=[[(0, [1.0, 1, 5, 5]), (1, [2.0, 2, 9, 9])], [(1, [2.0, 2, 9, 9])]])
    data = datasets.load("coco_hub", Dataset)
    assert [(q.image, box_of(q), data.categories[q.category]) for q in data.queries] == [
        (0, (5, 5, 50, 38), "cup"),
        (0, (10, 20, 30, 35), "cat"),
        (1, (0, 0, 1, 40), "cat"),
    ]
    assert data.labels.tolist() == [[True, True], [False, True]]
    np.testing.assert_array_equal(np.asarray(data.query_images[1]()), np.asarray(scene(1, (60, 40))))


def test_coco_from_the_hub_says_what_is_wrong(hub_copy, tmp_path):
    folder = hub_copy(val=[[(1, [5.0, 5, 50, 38])]])
    with pytest.raises(Unavailable, match=r"train-\*.parquet is missing or damaged"):
        datasets.load("coco_hub", Dataset)
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(Unavailable, match="missing or damaged"):
        datasets.load("coco_hub", Dataset)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(Unavailable, match="detection-datasets/coco cannot be fetched"):
        datasets.load("coco_hub", Dataset)


def test_a_picture_from_the_hub_that_exif_turns_is_read_as_it_was_annotated():
    """And a damaged one is named by its row."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    scene(0, (60, 40)).save(stored, "JPEG", exif=exif)
    rows = [{"image": {"bytes": data}, "width": 60, "height": 40} for data in (stored.getvalue(), b"no picture")]
    assert coco_hub._loaders(rows)[0]().size == (60, 40)
    with pytest.raises(Unavailable, match="image 1 of detection-datasets/coco"):
        coco_hub._loaders(rows)[1]()
