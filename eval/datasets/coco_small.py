"""coco_small: 435 COCO photos with boxes, leave-one-out. Small: never the paper's benchmark."""

from __future__ import annotations

import json

import numpy as np

from eval.datasets import Dataset, Query, dataset, file, needed, root
from foir.prompts import Prompt


@dataset("coco_small")
def coco_small() -> Dataset:
    """Boxes in COCO format; iscrowd dropped; only categories that at least two photos contain."""
    folder = needed(root() / "coco_small", "coco_small (images/ and instances.json)")
    notes = json.loads((folder / "instances.json").read_text())
    row = {image["id"]: i for i, image in enumerate(notes["images"])}
    kind = {category["id"]: i for i, category in enumerate(notes["categories"])}
    objects = [a for a in notes["annotations"] if not a["iscrowd"]]
    labels = np.zeros((len(row), len(kind)), bool)
    for a in objects:
        labels[row[a["image_id"]], kind[a["category_id"]]] = True
    findable = labels.sum(0) >= 2
    queries = []
    for a in objects:
        x, y, width, height = a["bbox"]
        if findable[kind[a["category_id"]]]:
            box = Prompt.box(x, y, x + width, y + height)
            queries.append(Query(row[a["image_id"]], box, kind[a["category_id"]]))
    files = tuple(file(folder / "images" / image["file_name"]) for image in notes["images"])
    names = tuple(category["name"] for category in notes["categories"])
    return Dataset("coco_small", files, labels, tuple(queries), files, names, leave_one_out=True)
