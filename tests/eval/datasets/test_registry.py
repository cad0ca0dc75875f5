"""The registry: unknown names, wrong kinds, and missing data are one sentence."""

import pytest

from eval import datasets
from eval.datasets.base import CaptionedDataset, ClassificationDataset, Dataset
from foir import Unavailable

MISSING = [
    *((name, Dataset) for name in ("coco", "coco_small", "voc", "visual_genome")),
    *((name, ClassificationDataset) for name in ("cifar10", "cifar100", "stl10", "tiny-imagenet")),
    *((name, CaptionedDataset) for name in ("flickr30k", "coco-5k", "coco-fg", "coco-small-captions")),
]


@pytest.mark.parametrize(("name", "kind"), MISSING)
def test_absent_data_says_what_to_put_where(root, name, kind):
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.load(name, kind)
