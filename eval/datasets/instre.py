"""instre-xs, instre-xxs: the pictures of INSTRE whose object covers less than 15 % and 5 % of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PIL import Image

from eval.datasets import InstanceDataset, Scene, InstanceQuery, image_file, instances, require
from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import Box
from foir.small_objects.crops import DetectedObject, crop_around

PARTS = ("INSTRE-S1", "INSTRE-S2")  # one object a picture


def _build(name: str, largest: float) -> InstanceDataset:
    """Of each instance's small pictures, by name, every second asks and the others are the gallery.

    The published lists are not to be had: only their lengths are (2,428 and 2,065; 106 and 120).
    """
    folder = require(hub.data_folder() / "INSTRE", "INSTRE (INSTRE-S1/CLASS/*.jpg with a .txt of x y width height each)")
    scenes, queries = [], []
    for kind in sorted(path for part in PARTS for path in folder.glob(f"{part}/*") if path.is_dir()):
        small = [
            (path, box) for path in sorted(kind.glob("*.jpg")) if (box := _box(path)) and _share(path, box) < largest
        ]
        if len(small) < 2:
            continue
        instance = f"{kind.parent.name}/{kind.name}"
        for place, (path, box) in enumerate(small):
            if place % 2:
                queries.append(InstanceQuery(partial(_cut_out, path, box), instance))
            else:
                scenes.append(Scene(image_file(path), partial(_things, box), frozenset([instance])))
    if not queries:
        raise Unavailable(f"No instance below {folder} has two pictures on which it is so small.")
    return InstanceDataset(name, tuple(scenes), tuple(queries))


def _box(picture: Path) -> Box | None:
    """The box that is noted beside a picture, None where there is none."""
    try:
        x, y, width, height = (float(word) for word in picture.with_suffix(".txt").read_text().split()[:4])
    except (OSError, ValueError):
        return None
    return (x, y, x + width, y + height)


def _share(picture: Path, box: Box) -> float:
    with Image.open(picture, formats=images.FORMATS) as opened:  # its header alone
        width, height = opened.size
    return (box[2] - box[0]) * (box[3] - box[1]) / (width * height)


def _things(box: Box) -> tuple[DetectedObject, ...]:
    return (DetectedObject(box),)


def _cut_out(picture: Path, box: Box) -> Image.Image:
    return crop_around(images.read(picture).image, box)


for _name, _largest in (("instre-xs", 0.15), ("instre-xxs", 0.05)):
    instances(_name)(partial(_build, _name, _largest))
