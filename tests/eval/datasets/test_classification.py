"""CIFAR, STL-10 and Tiny-ImageNet in their official formats, in miniature."""

import numpy as np
import pytest

from eval import datasets
from eval.datasets.base import ClassificationDataset
from foir import Unavailable
from tests.conftest import scene


def planes(seed, side):
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)


def write_cifar(root):
    ten, hundred = root / "cifar-10-batches-bin", root / "cifar-100-binary"
    ten.mkdir()
    hundred.mkdir()
    (ten / "batches.meta.txt").write_text("airplane\nautomobile\n\n")
    (hundred / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n")
    rows = [bytes([kind]) + planes(i, 32).tobytes() for i, kind in enumerate((1, 0))]
    (ten / "test_batch.bin").write_bytes(b"".join(rows))
    (hundred / "test.bin").write_bytes(b"".join(bytes([7, 2]) + planes(i, 32).tobytes() for i in range(2)))
    return ten / "test_batch.bin"


def write_stl(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    (folder / "test_X.bin").write_bytes(planes(0, 96).transpose(0, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes(bytes([2]))


def write_tiny_imagenet(root):
    folder = root / "tiny-imagenet-200" / "val"
    (folder / "images").mkdir(parents=True)
    for i in range(2):
        scene(i, (64, 64)).save(folder / "images" / f"val_{i}.JPEG")
    (folder / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")


def test_cifar_in_its_binary_version(root):
    batch = write_cifar(root)
    data = datasets.load("cifar10", ClassificationDataset)
    assert data.class_names == ("airplane", "automobile") and data.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(np.asarray(data.images[1]()), planes(1, 32).transpose(1, 2, 0))
    assert datasets.load("cifar100", ClassificationDataset).labels.tolist() == [2, 2]
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(Unavailable, match="no whole number of records"):
        datasets.load("cifar10", ClassificationDataset)


def test_stl_runs_down_the_columns(root):
    write_stl(root)
    data = datasets.load("stl10", ClassificationDataset)
    assert data.labels.tolist() == [1]
    np.testing.assert_array_equal(np.asarray(data.images[0]()), planes(0, 96).transpose(1, 2, 0))


def test_tiny_imagenet_takes_its_validation_pictures(root):
    write_tiny_imagenet(root)
    data = datasets.load("tiny-imagenet", ClassificationDataset)
    assert data.class_names == ("n01", "n02") and data.labels.tolist() == [1, 0] and data.images[0]().size == (64, 64)
