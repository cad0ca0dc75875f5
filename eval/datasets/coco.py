"""coco: COCO 2017 in its official layout; val2017 asks, train2017 is the gallery (PHS paper, section 4.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.datasets import Dataset, Query, dataset, image_file, require
from foir import hub
from foir.prompts import Prompt


@dataset("coco")
def coco() -> Dataset:
    """Every annotated box of val2017 is a query; crowds are dropped; masks come from polygons or run lengths."""
    folder = require(
        hub.data_folder() / "coco",
        "COCO 2017 (annotations/instances_{train,val}2017.json, train2017/, val2017/ of cocodataset.org)",
    )
    asked, kept = (notes(folder / "annotations" / f"instances_{split}2017.json") for split in ("val", "train"))
    kinds = {category["id"]: i for i, category in enumerate(kept["categories"])}
    return Dataset(
        "coco",
        files(folder / "train2017", kept["images"]),
        contents(kept, kinds),
        queries(asked, kinds),
        files(folder / "val2017", asked["images"]),
        tuple(category["name"] for category in kept["categories"]),
    )


def notes(path: Path) -> dict[str, Any]:
    """An annotation file without its crowds.

    Raises:
        Unavailable: It is absent.
    """
    data = json.loads(require(path, "A COCO annotation file").read_text())
    return {**data, "annotations": [a for a in data["annotations"] if not a["iscrowd"]]}


def files(folder: Path, entries: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """The pictures of an annotation file, in its order."""
    return tuple(image_file(folder / entry["file_name"]) for entry in entries)


def contents(data: Mapping[str, Any], kinds: Mapping[int, int]) -> np.ndarray:
    """What each picture contains, bool [pictures, categories]."""
    row = {entry["id"]: i for i, entry in enumerate(data["images"])}
    labels = np.zeros((len(row), len(kinds)), bool)
    for a in data["annotations"]:
        labels[row[a["image_id"]], kinds[a["category_id"]]] = True
    return labels


def queries(data: Mapping[str, Any], kinds: Mapping[int, int]) -> tuple[Query, ...]:
    """One query for each annotated object, with its mask where the file has one."""
    row = {entry["id"]: i for i, entry in enumerate(data["images"])}
    made = []
    for a in data["annotations"]:
        x, y, width, height = a["bbox"]
        entry = data["images"][row[a["image_id"]]]
        outline = a.get("segmentation")
        mask = partial(decode, outline, (entry["width"], entry["height"])) if outline else None
        box = Prompt.box(x, y, x + width, y + height)
        made.append(Query(row[a["image_id"]], box, kinds[a["category_id"]], mask))
    return tuple(made)


def decode(outline: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """A segmentation of a picture of (width, height), polygons or run lengths in COCO's ways, as bool [H, W]."""
    from pycocotools import mask

    width, height = size
    if isinstance(outline, list):
        packed: Any = mask.merge(mask.frPyObjects(outline, height, width))
    elif isinstance(outline["counts"], list):
        packed = mask.frPyObjects(outline, height, width)
    else:
        packed = outline
    return np.asarray(mask.decode(packed), bool)
