"""VoxDet's RoboTools in miniature."""

import json

import numpy as np
import pytest
from PIL import Image

from eval import datasets
from eval.datasets.base import InstanceDataset
from foir import Unavailable
from tests.conftest import scene


def write_voxdet(folder):
    test, video = folder / "VoxDet/RoboTools/test", folder / "VoxDet/RoboTools/test_video"
    images, notes = [], []
    for number in range(2):
        path = test / f"{number:06}" / "rgb" / "000.png"
        path.parent.mkdir(parents=True)
        scene(number, (200, 150)).save(path)
        images.append({"id": number, "file_name": str(path.relative_to(test))})
        notes.append({"image_id": number, "category_id": number + 1, "bbox": [10, 20, 30, 40]})
    (test / "scene_gt_coco_all.json").write_text(json.dumps({"images": images, "annotations": notes}))
    for name in ("hammer_000001", "nut_000002", "unseen_000009"):
        for part in ("rgb", "mask"):
            (video / name / part).mkdir(parents=True)
        scene(5, (100, 80)).save(video / name / "rgb" / "0.png")
        mask = np.zeros((80, 100), np.uint8)
        mask[10:30, 40:60] = 255
        Image.fromarray(mask).save(video / name / "mask" / "0.png")


def test_voxdet(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="RoboTools"):
        datasets.load("voxdet", InstanceDataset)
    write_voxdet(tmp_path)
    data = datasets.load("voxdet", InstanceDataset)
    assert [one.areas for one in data.scenes] == [{"1": 0.04}, {"2": 0.04}]
    assert [query.instance for query in data.queries] == ["1", "2"]  # what is on no scene cannot be found
    assert data.scenes[0].count == 1 and not data.has_masks
    assert data.scenes[0].objects()[0].box == (10, 20, 40, 60)
    assert data.queries[0].load().size == (20, 20)
