"""voxdet: VoxDet's real test scenes (RoboTools) as the gallery, the objects of its turntable videos as queries."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

from .base import InstanceDataset, InstanceQuery, Scene, corners, image_file, register, require
from .checks import NO_MASK, OUTSIDE, checked_annotations, image_files, is_outside

SUFFIXES = {".jpg", ".png"}


@register("voxdet", InstanceDataset)
def voxdet() -> InstanceDataset:
    """Every frame of a test video is a query; the paper does not state how many of them it uses."""
    folder = require(hub.data_folder() / "VoxDet" / "RoboTools", "VoxDet's RoboTools (test/, test_video/)")
    text = require(folder / "test" / "scene_gt_coco_all.json", "VoxDet's annotation file").read_bytes()
    with checked_annotations(folder / "test" / "scene_gt_coco_all.json"):
        data = json.loads(text)
        sizes = {entry["id"]: (entry.get("width", math.inf), entry.get("height", math.inf)) for entry in data["images"]}
        boxes = [(note["image_id"], note["category_id"], corners(note["bbox"])) for note in data["annotations"]]
        objects: dict[int, list[DetectedObject]] = {number: [] for number in sizes}
        instances: dict[int, set[str]] = {number: set() for number in sizes}
        for number, category, box in boxes:
            instances[number].add(str(category))
            if not is_outside(box, sizes[number]):
                objects[number].append(DetectedObject(box))
        files = image_files([folder / "test" / entry["file_name"] for entry in data["images"]])
    scenes = tuple(
        Scene(load, partial(tuple, found), frozenset(shown))
        for load, found, shown in zip(files, objects.values(), instances.values(), strict=True)
    )
    present = frozenset().union(*(scene.instances for scene in scenes))
    paths = [
        (path, str(int(video.name.rpartition("_")[2])))
        for video in sorted((folder / "test_video").iterdir())
        for path in sorted((video / "rgb").glob("*"))
        if path.suffix in SUFFIXES
    ]
    findable = [(path, instance) for path, instance in paths if instance in present]
    queries = tuple(
        InstanceQuery(partial(_query_image, path), instance) for path, instance in findable if _mask(path).any()
    )
    if not queries:
        raise Unavailable(f"No object of {folder / 'test_video'} is on a scene of {folder / 'test'}.")
    return InstanceDataset(
        "voxdet",
        scenes,
        queries,
        {OUTSIDE: len(boxes) - sum(map(len, objects.values())), NO_MASK: len(findable) - len(queries)},
    )


def _query_image(path: Path) -> Image.Image:
    return crop_around(image_file(path)(), bounds(_mask(path)))


def _mask(path: Path) -> np.ndarray:
    mask = images.read_mask(path.parents[1] / "mask" / path.name)
    return mask > mask.max() / 2
