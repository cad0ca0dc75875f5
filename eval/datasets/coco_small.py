"""coco_small: 435 COCO photos with boxes, leave-one-out. Small: never the paper's benchmark."""

from __future__ import annotations

import json

from eval.datasets import CaptionedDataset, Dataset, captioned, dataset, image_file, require
from eval.datasets.coco import contents, files, notes, queries
from foir import hub


@dataset("coco_small")
def coco_small() -> Dataset:
    """Boxes in COCO format; crowds dropped; only categories that at least two photos contain are asked for."""
    folder = require(hub.data_folder() / "coco_small", "coco_small (images/ and instances.json)")
    data = notes(folder / "instances.json")
    kinds = {category["id"]: i for i, category in enumerate(data["categories"])}
    labels = contents(data, kinds)
    findable = labels.sum(0) >= 2
    pictures = files(folder / "images", data["images"])
    asked = tuple(query for query in queries(data, kinds) if findable[query.category])
    names = tuple(category["name"] for category in data["categories"])
    return Dataset("coco_small", pictures, labels, asked, pictures, names, leave_one_out=True)


@captioned("coco-small-captions")
def with_captions() -> CaptionedDataset:
    """The photos of coco_small that have captions, and the boxes of what is on them."""
    folder = require(hub.data_folder() / "coco_small", "coco_small (images/, instances.json and captions.json)")
    data = notes(folder / "instances.json")
    said: dict[int, list[str]] = {}
    for note in json.loads((folder / "captions.json").read_text())["annotations"]:
        said.setdefault(note["image_id"], []).append(note["caption"])
    entries = [entry for entry in data["images"] if entry["id"] in said]
    boxes: dict[int, list[tuple[float, float, float, float]]] = {entry["id"]: [] for entry in entries}
    for note in data["annotations"]:
        x, y, width, height = note["bbox"]
        if note["image_id"] in boxes:
            boxes[note["image_id"]].append((x, y, x + width, y + height))
    return CaptionedDataset(
        "coco-small-captions",
        tuple(image_file(folder / "images" / entry["file_name"]) for entry in entries),
        tuple(tuple(said[entry["id"]]) for entry in entries),
        boxes={"annotated": tuple(tuple(boxes[entry["id"]]) for entry in entries)},
    )
