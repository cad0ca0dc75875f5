"""voc12_part, voc12_part_dev: photos of VOC2012 trainval that show pets, farm animals and what stands beside them.

A photo's split hangs on the last hexadecimal digit of its file name's SHA-256: 0 to 2 for choosing settings
(voc12_part_dev), 3 to 5 for reporting (voc12_part), the others for training. Each is searched leave-one-out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from foir import hub

from .base import Dataset, require
from .checks import checked_annotations
from .coco import box_queries, category_columns, image_files, image_labels, read_annotations
from .registry import Download, register

NOTE = "A class-skewed part of VOC2012, not the paper's VOC."
SPLITS = {"voc12_part_dev": "012", "voc12_part": "345"}  # digits of each
MIN_PHOTOS = 10  # that show a class, for it to be scored
PHOTOS = Download(
    ("voc12_part/images/*", "voc12_part/instances.json"),
    "This set is local: put photos of VOC2012, and boxes in COCO's format, into FOIR_DATA/voc12_part (images/, "
    "instances.json).",
)


def in_split(file_name: str, digits: str) -> bool:
    """Whether a photo is in the split of these digits."""
    return hashlib.sha256(file_name.encode()).hexdigest()[-1] in digits


def _build(name: str) -> Dataset:
    """Every box of a class that at least `MIN_PHOTOS` photos of the split show is a query, the difficult ones too."""
    folder = require(hub.data_folder() / "voc12_part", "voc12_part (images/ and instances.json)")
    data = read_annotations(folder / "instances.json")
    with checked_annotations(folder / "instances.json"):
        data = _only(data, SPLITS[name])
        columns = category_columns(data)
        labels = image_labels(data, columns)
        scored = labels.sum(0) >= MIN_PHOTOS
        loaders = image_files(folder / "images", data["images"])
        queries = tuple(query for query in box_queries(data, columns) if scored[query.category])
        names = tuple(category["name"] for category in data["categories"])
    return Dataset(name, loaders, labels, queries, loaders, names, leave_one_out=True, orientation="voc")


def _only(data: Mapping[str, Any], digits: str) -> dict[str, Any]:
    """The annotations of one split."""
    entries = [entry for entry in data["images"] if in_split(entry["file_name"], digits)]
    ids = {entry["id"] for entry in entries}
    annotations = [annotation for annotation in data["annotations"] if annotation["image_id"] in ids]
    return {**data, "images": entries, "annotations": annotations}


for _name in SPLITS:
    register(_name, Dataset, PHOTOS, note=NOTE)(partial(_build, _name))
