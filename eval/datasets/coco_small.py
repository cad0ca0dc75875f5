"""coco_small: 435 COCO photos with boxes, leave-one-out. Too small for the paper's numbers."""

from __future__ import annotations

import json

from foir import hub
from foir.prompts import Box

from .base import CaptionedDataset, Dataset, corners, require
from .checks import checked_annotations
from .coco import box_queries, category_columns, image_files, image_labels, outlines_digest, read_annotations
from .registry import Download, register

PHOTOS = Download(
    ("coco_small/images/*.jpg", "coco_small/instances.json"),
    "This set is local: put photos, and boxes in COCO's format, into FOIR_DATA/coco_small (images/, instances.json).",
)
CAPTIONS = Download(
    ("coco_small/captions.json",),
    "This set is local: put captions in COCO's format to FOIR_DATA/coco_small/captions.json.",
)


@register("coco_small", Dataset, PHOTOS)
def coco_small() -> Dataset:
    """Boxes in COCO format without crowds; queries only for categories that at least two photos show."""
    folder = require(hub.data_folder() / "coco_small", "coco_small (images/ and instances.json)")
    data = read_annotations(folder / "instances.json")
    with checked_annotations(folder / "instances.json"):
        columns = category_columns(data)
        labels = image_labels(data, columns)
        findable = labels.sum(0) >= 2
        loaders = image_files(folder / "images", data["images"])
        queries = tuple(query for query in box_queries(data, columns) if findable[query.category])
        names = tuple(category["name"] for category in data["categories"])
    return Dataset(
        "coco_small", loaders, labels, queries, loaders, names, leave_one_out=True, source=outlines_digest(data)
    )


@register("coco-small-captions", CaptionedDataset, PHOTOS, CAPTIONS)
def coco_small_captions() -> CaptionedDataset:
    """The photos of coco_small that have captions, and the boxes of their objects."""
    folder = require(hub.data_folder() / "coco_small", "coco_small (images/, instances.json and captions.json)")
    data = read_annotations(folder / "instances.json")
    text = require(folder / "captions.json", "The captions of coco_small").read_bytes()
    captions: dict[int, list[str]] = {}
    with checked_annotations(folder / "captions.json"):
        for annotation in json.loads(text)["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    with checked_annotations(folder / "instances.json"):
        entries = [entry for entry in data["images"] if entry["id"] in captions]
        boxes: dict[int, list[Box]] = {entry["id"]: [] for entry in entries}
        for annotation in data["annotations"]:
            if annotation["image_id"] in boxes:
                boxes[annotation["image_id"]].append(corners(annotation["bbox"]))
        return CaptionedDataset(
            "coco-small-captions",
            image_files(folder / "images", entries),
            tuple(tuple(captions[entry["id"]]) for entry in entries),
            boxes={"annotated": tuple(tuple(boxes[entry["id"]]) for entry in entries)},
        )
