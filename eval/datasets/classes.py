"""cifar10, cifar100, stl10, tiny-imagenet: test pictures with one class each, from the official files.

What must lie under FOIR_DATA: cifar-10-batches-bin/test_batch.bin and cifar-100-binary/test.bin (the "binary version"),
stl10_binary/test_X.bin and test_y.bin, tiny-imagenet-200/ (its test pictures have no labels; validation serves).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from eval.datasets import Classed, Load, classed, file, needed
from foir import hub
from foir.errors import Unavailable
from foir.playroom import compose

CIFAR, STL = 32, 96  # sides in pixels
SINGLE = 300  # scenes with one thing each


@classed("cifar10")
def cifar10() -> Classed:
    """10,000 test pictures of ten classes."""
    folder = needed(hub.data_folder() / "cifar-10-batches-bin", "CIFAR-10, binary version")
    rows = _records(folder / "test_batch.bin", 1 + 3 * CIFAR**2)
    return Classed("cifar10", _planar(rows[:, 1:], CIFAR), rows[:, 0].astype(int), _lines(folder / "batches.meta.txt"))


@classed("cifar100")
def cifar100() -> Classed:
    """10,000 test pictures of a hundred fine classes."""
    folder = needed(hub.data_folder() / "cifar-100-binary", "CIFAR-100, binary version")
    rows = _records(folder / "test.bin", 2 + 3 * CIFAR**2)
    names = _lines(folder / "fine_label_names.txt")
    return Classed("cifar100", _planar(rows[:, 2:], CIFAR), rows[:, 1].astype(int), names)


@classed("stl10")
def stl10() -> Classed:
    """8,000 test pictures of ten classes; their pixels run down the columns first."""
    folder = needed(hub.data_folder() / "stl10_binary", "STL-10, binary version")
    rows = _records(folder / "test_X.bin", 3 * STL**2)
    classes = _records(folder / "test_y.bin", 1)[:, 0].astype(int) - 1
    upright = rows.reshape(-1, 3, STL, STL).transpose(0, 1, 3, 2).reshape(len(rows), -1)
    return Classed("stl10", _planar(upright, STL), classes, _lines(folder / "class_names.txt"))


@classed("tiny-imagenet")
def tiny_imagenet() -> Classed:
    """10,000 validation pictures of 200 classes."""
    folder = needed(hub.data_folder() / "tiny-imagenet-200", "Tiny-ImageNet (tiny-imagenet-200)") / "val"
    lines = [line.split("\t") for line in _lines(folder / "val_annotations.txt")]
    names = tuple(sorted({line[1] for line in lines}))
    pictures = tuple(file(folder / "images" / line[0]) for line in lines)
    return Classed("tiny-imagenet", pictures, np.array([names.index(line[1]) for line in lines]), names)


@classed("playroom-single")
def playroom_single() -> Classed:
    """Composed scenes with one thing each, whose class is its category: toys, for trying the table offline."""
    scenes = [compose("held-out", number, objects=1) for number in range(SINGLE)]
    kept = [number for number, scene in enumerate(scenes) if scene.objects]
    kinds = [scenes[number].objects[0].sprite.category for number in kept]
    names = tuple(sorted(set(kinds)))
    classes = np.array([names.index(kind) for kind in kinds])
    return Classed("playroom-single", tuple(partial(_scene, number) for number in kept), classes, names)


def _scene(number: int) -> Image.Image:
    return compose("held-out", number, objects=1).image


def _records(path: Path, size: int) -> np.ndarray:
    """A file of records of so many bytes, uint8 [n, size].

    Raises:
        Unavailable: It is absent or cut short.
    """
    data = np.fromfile(needed(path, f"The file {path.name}"), np.uint8)
    if not len(data) or len(data) % size:
        raise Unavailable(f"{path} is damaged: {len(data)} bytes are no whole number of records.")
    return data.reshape(-1, size)


def _planar(rows: np.ndarray, side: int) -> tuple[Load, ...]:
    """Pictures of which all red values come first, then all green, then all blue."""

    def load(row: int) -> Image.Image:
        return Image.fromarray(rows[row].reshape(3, side, side).transpose(1, 2, 0))

    return tuple(partial(load, row) for row in range(len(rows)))


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line for line in needed(path, f"The file {path.name}").read_text().splitlines() if line)
