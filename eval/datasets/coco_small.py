"""coco_small: 435 COCO photos with boxes, leave-one-out. Small: never the paper's benchmark."""

from __future__ import annotations

from eval.datasets import Dataset, dataset, needed
from eval.datasets.coco import contents, files, notes, queries
from foir import hub


@dataset("coco_small")
def coco_small() -> Dataset:
    """Boxes in COCO format; crowds dropped; only categories that at least two photos contain are asked for."""
    folder = needed(hub.photos() / "coco_small", "coco_small (images/ and instances.json)")
    data = notes(folder / "instances.json")
    kinds = {category["id"]: i for i, category in enumerate(data["categories"])}
    labels = contents(data, kinds)
    findable = labels.sum(0) >= 2
    pictures = files(folder / "images", data["images"])
    asked = tuple(query for query in queries(data, kinds) if findable[query.category])
    names = tuple(category["name"] for category in data["categories"])
    return Dataset("coco_small", pictures, labels, asked, pictures, names, leave_one_out=True)
