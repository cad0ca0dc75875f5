"""A fresh image tower, and small made data sets in the layouts of Flickr8k and of boxed photos."""

import json

import pytest
import torch

from foir.mini import weights
from foir.mini.training import photos
from tests.conftest import scene


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return weights.ImageTower()


@pytest.fixture(scope="module")
def encoder(tower):
    return tower.as_encoder("made")


@pytest.fixture
def flickr(tmp_path):
    """Twelve made photos in Flickr8k's layout: eight to train on, two each for dev and test."""
    folder = tmp_path / "flickr8k"
    (folder / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for i in range(12):
        scene(i, (96, 80)).save(folder / "images" / f"{i:02}.jpg")
        lines += [f'{i:02}.jpg,"thing {i}, number {k} of a dog ."' for k in range(3)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    names = [f"{i:02}.jpg" for i in range(12)]
    for name, part in (("train", names[:7]), ("dev", names[8:10]), ("test", [*names[10:], "absent.jpg"])):
        (folder / photos.LISTS[name]).write_text("\n".join(part) + "\n")
    return folder


@pytest.fixture
def voc(tmp_path):
    """Twelve made photos with one box each, in COCO's format."""
    folder = tmp_path / "voc12_part"
    (folder / "images").mkdir(parents=True)
    entries, boxes = [], []
    for i in range(12):
        scene(20 + i, (80, 60)).save(folder / "images" / f"{i}.jpg")
        entries.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60})
        boxes.append({"image_id": i, "category_id": 1 + i % 2, "bbox": [20, 6, 40, 48]})
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "pottedplant"}]
    (folder / "instances.json").write_text(
        json.dumps({"images": entries, "annotations": boxes, "categories": categories})
    )
    return folder
