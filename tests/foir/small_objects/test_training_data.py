"""Training scenes for Stage A of MaO."""

import json

import numpy as np
import pytest
from PIL import Image

from foir import Unavailable
from foir.small_objects import training_data
from tests.conftest import scene


def test_composed_lessons_ask_for_a_small_known_sprite():
    count, make = training_data.playroom()
    one = make(3)
    assert count == training_data.SCENES and np.asarray(one.objects[0].mask).mean() < 0.06
    assert one.query.size[0] == one.query.size[1]
    again = make(3)
    assert np.array_equal(np.asarray(one.image), np.asarray(again.image))


def test_voxdets_training_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="OWID"):
        training_data.voxdet()
    folder = tmp_path / "VoxDet" / "OWID"
    (folder / "P2" / "images").mkdir(parents=True)
    scene(0, (200, 150)).save(folder / "P2" / "images" / "7.png")
    for part in ("rgb", "mask"):
        (folder / "P1" / "5" / part).mkdir(parents=True)
    scene(1, (60, 50)).save(folder / "P1" / "5" / "rgb" / "0.png")
    mask = np.zeros((50, 60), np.uint8)
    mask[10:20, 10:30] = 1
    Image.fromarray(mask).save(folder / "P1" / "5" / "mask" / "0.png")
    notes = {
        "images": [{"id": 1, "file_name": "images/7.png"}, {"id": 2, "file_name": "images/8.png"}],
        "annotations": [{"image_id": 1, "category_id": 5, "bbox": [10, 20, 30, 40]}],
    }
    (folder / "P2" / "train_annotations.json").write_text(json.dumps(notes))
    count, make = training_data.voxdet()
    one = make(0)
    assert count == 1 and one.objects[0].box == (10, 20, 40, 60)
    assert one.query.size == (20, 20) and one.image.size == (200, 150)
