"""VoxDet's RoboTools in miniature."""

import json

import numpy as np
import pytest
from PIL import Image

from eval import datasets
from eval.datasets.base import InstanceDataset
from eval.experiments.specs import RunContext
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


def test_what_is_odd_about_voxdet_is_left_out_and_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    write_voxdet(tmp_path)
    path = tmp_path / "VoxDet/RoboTools/test/scene_gt_coco_all.json"
    data = json.loads(path.read_text())
    data["images"][0] |= {"width": 200, "height": 150}
    for box in ([300, 0, 9, 9], [float("nan"), 0, 9, 9]):
        data["annotations"].append({"image_id": 0, "category_id": 1, "bbox": box})
    path.write_text(json.dumps(data))
    nothing = tmp_path / "VoxDet/RoboTools/test_video/nut_000002/mask/0.png"
    Image.fromarray(np.zeros((80, 100), np.uint8)).save(nothing)
    loaded = RunContext().load_dataset("voxdet", InstanceDataset)
    assert [thing.box for thing in loaded.scenes[0].objects()] == [(10, 20, 40, 60)]
    assert [query.instance for query in loaded.queries] == ["1"]
    lines = capsys.readouterr().out
    assert "voxdet: query 1, gallery 2, test instances 1 (published: 20)." in lines
    assert "voxdet: boxes outside their images or not of numbers: 2." in lines
    assert "voxdet: query images whose mask is empty: 1." in lines
    path.write_text('{"images": []}')
    with pytest.raises(Unavailable, match="scene_gt_coco_all.json are damaged"):
        datasets.load("voxdet", InstanceDataset)
