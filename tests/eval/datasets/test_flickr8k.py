"""Flickr8k in miniature: the test list and the training photos."""

import pytest

from eval import datasets
from eval.datasets.base import CaptionedDataset, Dataset
from foir import Unavailable
from tests.eval.datasets.test_coco import pictures


def test_flickr8k_keeps_the_test_list_apart(root):
    folder = root / "flickr8k"
    pictures(folder / "images", [f"{i}.jpg" for i in range(5)])
    (folder / "captions.txt").write_text("image,caption\n" + "\n".join(f"{i}.jpg,picture {i}" for i in range(5)))
    for name, rows in (("train", (0, 1)), ("dev", (2,)), ("test", (3,))):
        (folder / f"Flickr_8k.{name}Images.txt").write_text("\n".join(f"{i}.jpg" for i in rows))
    data = datasets.load("flickr8k", CaptionedDataset)
    assert data.captions == (("picture 3",),)
    assert data.training is not None
    files, said = data.training()
    assert len(files) == 4 and ("picture 3",) not in said
    with pytest.raises(Unavailable, match="no data set"):
        datasets.load("coco", CaptionedDataset)
    with pytest.raises(Unavailable, match="no data set"):
        datasets.load("flickr8k", Dataset)
