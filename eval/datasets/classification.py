"""cifar10, cifar100, stl10, tiny-imagenet: test images with one class each, from the official files.

Files under FOIR_DATA: cifar-10-batches-bin/test_batch.bin and cifar-100-binary/test.bin (the "binary version"),
stl10_binary/test_X.bin and test_y.bin, tiny-imagenet-200/ (its test images have no labels, so validation is used).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from foir import hub
from foir.errors import Unavailable
from foir.playroom import compose

from .base import ClassificationDataset, ImageLoader, require
from .checks import checked_annotations, image_files
from .registry import Download, register

CIFAR, STL = 32, 96  # sides in pixels
SINGLE = 300  # scenes with one object each


def _archive(folder: str, files: tuple[str, ...], address: str) -> Download:
    """An archive that unpacks to a folder in FOIR_DATA."""
    return Download(
        tuple(f"{folder}/{file}" for file in files), f"Download {address} and unpack it in FOIR_DATA ({folder}/)."
    )


CIFAR10 = _archive(
    "cifar-10-batches-bin", ("test_batch.bin", "batches.meta.txt"),
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)  # fmt: skip
CIFAR100 = _archive(
    "cifar-100-binary", ("test.bin", "fine_label_names.txt"), "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
)
STL10 = _archive(
    "stl10_binary", ("test_X.bin", "test_y.bin", "class_names.txt"),
    "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
)  # fmt: skip
TINY = _archive(
    "tiny-imagenet-200", ("val/val_annotations.txt", "val/images/*.JPEG"),
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
)  # fmt: skip


@register("cifar10", ClassificationDataset, CIFAR10, sizes={"images": 10_000})
def cifar10() -> ClassificationDataset:
    """10,000 test images of ten classes."""
    folder = require(hub.data_folder() / "cifar-10-batches-bin", "CIFAR-10, binary version")
    rows = _records(folder / "test_batch.bin", 1 + 3 * CIFAR**2)
    names = _lines(folder / "batches.meta.txt")
    return ClassificationDataset("cifar10", _planar(rows[:, 1:], CIFAR), rows[:, 0].astype(int), names)


@register("cifar100", ClassificationDataset, CIFAR100, sizes={"images": 10_000})
def cifar100() -> ClassificationDataset:
    """10,000 test images of a hundred fine classes."""
    folder = require(hub.data_folder() / "cifar-100-binary", "CIFAR-100, binary version")
    rows = _records(folder / "test.bin", 2 + 3 * CIFAR**2)
    names = _lines(folder / "fine_label_names.txt")
    return ClassificationDataset("cifar100", _planar(rows[:, 2:], CIFAR), rows[:, 1].astype(int), names)


@register("stl10", ClassificationDataset, STL10, sizes={"images": 8000})
def stl10() -> ClassificationDataset:
    """8,000 test images of ten classes; the pixels are stored column by column."""
    folder = require(hub.data_folder() / "stl10_binary", "STL-10, binary version")
    rows = _records(folder / "test_X.bin", 3 * STL**2)
    labels = _records(folder / "test_y.bin", 1)[:, 0].astype(int) - 1
    upright = rows.reshape(-1, 3, STL, STL).transpose(0, 1, 3, 2).reshape(len(rows), -1)
    return ClassificationDataset("stl10", _planar(upright, STL), labels, _lines(folder / "class_names.txt"))


@register("tiny-imagenet", ClassificationDataset, TINY, sizes={"images": 10_000})
def tiny_imagenet() -> ClassificationDataset:
    """10,000 validation images of 200 classes."""
    folder = require(hub.data_folder() / "tiny-imagenet-200", "Tiny-ImageNet (tiny-imagenet-200)") / "val"
    lines = [line.split("\t") for line in _lines(folder / "val_annotations.txt")]
    loaders = image_files([folder / "images" / line[0] for line in lines])
    with checked_annotations(folder / "val_annotations.txt"):
        return _from_class_names("tiny-imagenet", loaders, [line[1] for line in lines])


@register("playroom-single", ClassificationDataset)
def playroom_single() -> ClassificationDataset:
    """Composed scenes with one toy each, labelled with its category; for trying the table offline."""
    scenes = [compose("held-out", number, objects=1) for number in range(SINGLE)]
    used = [number for number, scene in enumerate(scenes) if scene.objects]
    categories = [scenes[number].objects[0].sprite.category for number in used]
    return _from_class_names("playroom-single", tuple(partial(_scene, number) for number in used), categories)


def _from_class_names(name: str, loaders: tuple[ImageLoader, ...], classes: list[str]) -> ClassificationDataset:
    """A data set of images and the class name of each."""
    names = tuple(sorted(set(classes)))
    return ClassificationDataset(name, loaders, np.array([names.index(label) for label in classes]), names)


def _scene(number: int) -> Image.Image:
    return compose("held-out", number, objects=1).image


def _records(path: Path, size: int) -> np.ndarray:
    """A file of records of `size` bytes, uint8 [n, size].

    Raises:
        Unavailable: The file is missing or cut short.
    """
    data = np.fromfile(require(path, f"The file {path.name}"), np.uint8)
    if not len(data) or len(data) % size:
        raise Unavailable(f"{path} is damaged: {len(data)} bytes are no whole number of records.")
    return data.reshape(-1, size)


def _planar(rows: np.ndarray, side: int) -> tuple[ImageLoader, ...]:
    """Images stored as all red values, then all green ones, then all blue ones."""

    def load(row: int) -> Image.Image:
        return Image.fromarray(rows[row].reshape(3, side, side).transpose(1, 2, 0))

    return tuple(partial(load, row) for row in range(len(rows)))


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line for line in require(path, f"The file {path.name}").read_text().splitlines() if line)
