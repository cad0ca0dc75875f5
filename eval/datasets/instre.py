"""instre-xs, instre-xxs: the images of INSTRE on which the object covers less than 15 % and 5 %."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PIL import Image

from foir import hub
from foir.errors import Unavailable
from foir.prompts import Box
from foir.small_objects.crops import DetectedObject, crop_around

from .base import InstanceDataset, InstanceQuery, Scene, corners, image_file, image_size, require
from .checks import NO_BOX, is_outside, visible_share
from .registry import Download, register

SUBSETS = ("INSTRE-S1", "INSTRE-S2")  # one object on each image
IMAGES = Download(
    tuple(f"INSTRE/{subset}/*/*.{suffix}" for subset in SUBSETS for suffix in ("jpg", "txt")),
    "Download INSTRE from http://123.57.42.89/instre/home.html and unpack INSTRE-S1 and INSTRE-S2 into "
    "FOIR_DATA/INSTRE.",
)


def _build(name: str, largest: float) -> InstanceDataset:
    """Of the small images of each instance, sorted by name, every second is a query; the others are the gallery.

    The published lists are not available, only their lengths (2,428 and 2,065; 106 and 120).
    """
    folder = require(
        hub.data_folder() / "INSTRE", "INSTRE (INSTRE-S1/CLASS/*.jpg with a .txt of x y width height each)"
    )
    scenes, queries, odd = [], [], 0
    for directory in sorted(path for subset in SUBSETS for path in folder.glob(f"{subset}/*") if path.is_dir()):
        boxes = [(path, *_annotation(path)) for path in sorted(directory.glob("*.jpg"))]
        small = [(path, box, share) for path, box, share in boxes if box and share < largest]
        odd += sum(box is None for _, box, _ in boxes)
        if len(small) < 2:
            continue
        instance = f"{directory.parent.name}/{directory.name}"
        for number, (path, box, share) in enumerate(small):
            if number % 2:
                queries.append(InstanceQuery(partial(_query_image, path, box), instance))
            else:
                scenes.append(Scene(image_file(path), partial(_objects, box), {instance: share}, 1, repr(box)))
    if not queries:
        raise Unavailable(f"No instance in {folder} has two images on which it is small enough.")
    return InstanceDataset(name, tuple(scenes), tuple(queries), {NO_BOX: odd}, has_masks=False)


def _annotation(path: Path) -> tuple[Box | None, float]:
    """The box in the text file beside an image, and the share of the image that it covers; None where there is none."""
    size = image_size(path)
    try:
        box = corners([float(word) for word in path.with_suffix(".txt").read_text().split()[:4]])
    except (OSError, ValueError):
        return None, 0.0
    share = 0.0 if is_outside(box, size) else visible_share(box, size)
    return (box, share) if share > 0 else (None, 0.0)


def _objects(box: Box) -> tuple[DetectedObject, ...]:
    return (DetectedObject(box),)


def _query_image(path: Path, box: Box) -> Image.Image:
    return crop_around(image_file(path)(), box)


for _name, _largest in (("instre-xs", 0.15), ("instre-xxs", 0.05)):
    register(_name, InstanceDataset, IMAGES, has_masks=False)(partial(_build, _name, _largest))
