"""A fresh image tower, and a small Flickr8k of generated photos."""

import pytest
import torch

from foir.mini import weights
from foir.mini.training import data
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
        (folder / data.LISTS[name]).write_text("\n".join(part) + "\n")
    return folder
