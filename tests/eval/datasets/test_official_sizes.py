"""The sizes that the papers state, asserted where the official files are under FOIR_DATA."""

import numpy as np
import pytest

from eval import datasets
from eval.datasets.base import CaptionedDataset, ClassificationDataset, Dataset, InstanceDataset
from eval.report import published
from foir import Unavailable

OF_PAPERS = {
    "coco": Dataset,
    "voc": Dataset,
    "visual_genome": Dataset,
    "flickr30k": CaptionedDataset,
    "flickr-fg": CaptionedDataset,
    "coco-5k": CaptionedDataset,
    "coco-fg": CaptionedDataset,
    "permir": InstanceDataset,
    "voxdet": InstanceDataset,
}  # not INSTRE-XS and -XXS: which images they have is not published
OF_CLASSES = {"cifar10": (10_000, 10), "cifar100": (10_000, 100), "stl10": (8_000, 10), "tiny-imagenet": (10_000, 200)}


def official(name, kind):
    try:
        return datasets.load(name, kind)
    except Unavailable as error:
        pytest.skip(f"The official files are not here. {error}")


@pytest.mark.parametrize("name", OF_PAPERS)
def test_a_data_set_is_as_large_as_its_paper_says(name):
    data = official(name, OF_PAPERS[name])
    stated = {size: theirs for size in data.sizes if (theirs := published.fact(name, size)) is not None}
    assert stated and {size: data.sizes[size] for size in stated} == stated


@pytest.mark.parametrize("name", OF_CLASSES)
def test_test_images_of_classes_are_complete(name):
    data = official(name, ClassificationDataset)
    assert (len(data.images), len(data.class_names)) == OF_CLASSES[name]


def test_a_share_of_the_query_images_of_voc_has_one_object():
    counts = np.bincount([query.image for query in official("voc", Dataset).queries])
    assert round(100 * float((counts == 1).mean())) == published.fact("voc", "single_object_query_share_percent")


def test_voxdet_has_as_many_annotations_as_its_paper_says():
    data = official("voxdet", InstanceDataset)
    assert sum(len(scene.objects()) for scene in data.scenes) == published.fact("voxdet", "test annotations")
