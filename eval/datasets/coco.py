"""coco: COCO 2017 in its official layout; val2017 has the queries, train2017 is the gallery (PHS paper, section 4.1).

The functions here read any annotation file in COCO's format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foir import hub, masks
from foir.errors import BadPrompt
from foir.prompts import Prompt

from . import checks
from .base import Dataset, ImageLoader, Query, corners, multi_hot, require
from .checks import checked_annotations
from .registry import Download, register

FAR = 10  # sides of the image; pycocotools draws the edges of a polygon, however far they reach
IMAGES = Download(
    ("coco/train2017/*.jpg", "coco/val2017/*.jpg"),
    "Download train2017.zip (18 GB) and val2017.zip (1 GB) from https://cocodataset.org/#download and unpack them into "
    "FOIR_DATA/coco.",
)
ANNOTATIONS = Download(
    ("coco/annotations/instances_train2017.json", "coco/annotations/instances_val2017.json"),
    "Download annotations_trainval2017.zip from https://cocodataset.org/#download and unpack it into FOIR_DATA/coco.",
)


@register("coco", Dataset, IMAGES, ANNOTATIONS, sizes={"boxes": 36_335})
def coco() -> Dataset:
    """Every annotated box of val2017 is a query; crowds are dropped."""
    folder = require(
        hub.data_folder() / "coco",
        "COCO 2017 (annotations/instances_{train,val}2017.json, train2017/, val2017/ of cocodataset.org)",
    )
    val, train = (
        read_annotations(folder / "annotations" / f"instances_{split}2017.json") for split in ("val", "train")
    )
    with checked_annotations(folder / "annotations"):
        columns = category_columns(train)
        return Dataset(
            "coco",
            image_files(folder / "train2017", train["images"]),
            image_labels(train, columns),
            box_queries(val, columns),
            image_files(folder / "val2017", val["images"]),
            tuple(category["name"] for category in train["categories"]),
            source=outlines_digest(val),
        )


def read_annotations(path: Path) -> dict[str, Any]:
    """An annotation file without its crowds.

    Raises:
        Unavailable: The file is missing or damaged.
    """
    text = require(path, "A COCO annotation file").read_bytes()
    with checked_annotations(path):
        data = json.loads(text)
        return {**data, "annotations": [a for a in data["annotations"] if not a["iscrowd"]]}


def outlines_digest(data: Mapping[str, Any]) -> str:
    """Digest of the objects' outlines."""
    outlines = json.dumps([annotation.get("segmentation") for annotation in data["annotations"]])
    return hashlib.sha256(outlines.encode()).hexdigest()[:16]


def category_columns(data: Mapping[str, Any]) -> dict[int, int]:
    """Column of each category id, in the file's order."""
    return {category["id"]: column for column, category in enumerate(data["categories"])}


def image_files(folder: Path, entries: Sequence[Mapping[str, Any]]) -> tuple[ImageLoader, ...]:
    """Loaders of the images of an annotation file, in its order."""
    sizes = [(entry["width"], entry["height"]) for entry in entries]
    return checks.image_files([folder / entry["file_name"] for entry in entries], sizes)


def image_labels(data: Mapping[str, Any], columns: Mapping[int, int]) -> np.ndarray:
    """The categories of each image, bool [images, categories]."""
    present: dict[int, list[int]] = {entry["id"]: [] for entry in data["images"]}
    for annotation in data["annotations"]:
        present[annotation["image_id"]].append(columns[annotation["category_id"]])
    return multi_hot(present.values(), len(columns))


def box_queries(data: Mapping[str, Any], columns: Mapping[int, int]) -> tuple[Query, ...]:
    """One query for each annotated object, with its mask where the file has one."""
    rows = {entry["id"]: row for row, entry in enumerate(data["images"])}
    queries = []
    for annotation in data["annotations"]:
        row, segmentation = rows[annotation["image_id"]], annotation.get("segmentation")
        size = (data["images"][row]["width"], data["images"][row]["height"])
        mask = partial(decode_mask, segmentation, size) if segmentation else None
        box = Prompt.box(*corners(annotation["bbox"]))
        queries.append(Query(row, box, columns[annotation["category_id"]], mask))
    return tuple(queries)


def decode_mask(segmentation: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """COCO polygons or run lengths on an image of (width, height), as bool [H, W].

    Polygons of fewer than three points, or with points far outside the image, are left out.

    Raises:
        BadPrompt: The annotation has another form.
    """
    from pycocotools import mask

    width, height = size
    try:
        if isinstance(segmentation, list):
            far = FAR * max(size)
            polygons = [p for p in segmentation if len(p) >= 6 and all(-far <= number <= far for number in p)]
            if not polygons:
                return np.zeros((height, width), bool)
            return np.asarray(mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))), bool)
        if segmentation["size"] != [height, width]:  # pycocotools would write beyond its memory
            raise ValueError(segmentation["size"])
        if isinstance(segmentation["counts"], list):
            return masks.decode(" ".join(map(str, segmentation["counts"])), size)
        return np.asarray(mask.decode(segmentation), bool)
    except Exception as error:  # pycocotools raises bare ones
        raise BadPrompt("The outline of an object is damaged.") from error
