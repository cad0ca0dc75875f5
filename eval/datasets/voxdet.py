"""voxdet: VoxDet's real test scenes (RoboTools) as the gallery, the objects of its turntable videos as queries."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import Box, bounds
from foir.small_objects.crops import DetectedObject, crop_around

from .base import ImageLoader, InstanceDataset, InstanceQuery, Scene, corners, image_file, image_size, require
from .checks import NO_MASK, OUTSIDE, checked_annotations, image_files, is_outside, visible_share
from .registry import Download, register

SUFFIXES = {".jpg", ".png"}
_Annotation = tuple[str, Box]  # instance and box


ROBOTOOLS = Download(
    (
        "VoxDet/RoboTools/test/scene_gt_coco_all.json",
        *(f"VoxDet/RoboTools/test_video/*/{part}/*" for part in ("rgb", "mask")),
    ),
    "Download RoboTools by the link on https://github.com/Jaraxxus-Me/VoxDet and unpack it as "
    "FOIR_DATA/VoxDet/RoboTools.",
)


@register("voxdet", InstanceDataset, ROBOTOOLS, has_masks=False)
def voxdet() -> InstanceDataset:
    """Every frame of a test video is a query; the paper does not state how many of them it uses."""
    folder = require(hub.data_folder() / "VoxDet" / "RoboTools", "VoxDet's RoboTools (test/, test_video/)")
    text = require(folder / "test" / "scene_gt_coco_all.json", "VoxDet's annotation file").read_bytes()
    with checked_annotations(folder / "test" / "scene_gt_coco_all.json"):
        data = json.loads(text)
        boxes: dict[int, list[_Annotation]] = {entry["id"]: [] for entry in data["images"]}
        for note in data["annotations"]:
            boxes[note["image_id"]].append((str(note["category_id"]), corners(note["bbox"])))
        paths = [folder / "test" / entry["file_name"] for entry in data["images"]]
    loaders = image_files(paths)
    scenes = tuple(map(_scene, loaders, map(image_size, paths), boxes.values()))
    present = {instance for scene in scenes for instance in scene.areas}
    frames = [
        (path, str(int(video.name.rpartition("_")[2])))
        for video in sorted((folder / "test_video").glob("*_[0-9]*"))
        for path in sorted((video / "rgb").glob("*"))
        if path.suffix in SUFFIXES
    ]
    findable = [(path, instance) for path, instance in frames if instance in present]
    queries = tuple(
        InstanceQuery(partial(_query_image, path), instance) for path, instance in findable if _mask(path).any()
    )
    if not queries:
        raise Unavailable(f"No object of {folder / 'test_video'} is on a scene of {folder / 'test'}.")
    outside = sum(map(len, boxes.values())) - sum(scene.count for scene in scenes)
    oddities = {OUTSIDE: outside, NO_MASK: len(findable) - len(queries)}
    return InstanceDataset("voxdet", scenes, queries, oddities, has_masks=False)


def _scene(load: ImageLoader, size: tuple[int, int], annotations: Iterable[_Annotation]) -> Scene:
    areas: dict[str, float | None] = {}
    boxes = []
    for instance, box in annotations:
        areas.setdefault(instance, None)
        if not is_outside(box, size):
            boxes.append(box)
            areas[instance] = max(areas[instance] or 0.0, visible_share(box, size))
    return Scene(load, partial(_objects, boxes), areas, len(boxes), repr(boxes))


def _objects(boxes: Iterable[Box]) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(box) for box in boxes)


def _query_image(path: Path) -> Image.Image:
    return crop_around(image_file(path)(), bounds(_mask(path)))


def _mask(path: Path) -> np.ndarray:
    mask = images.read_mask(path.parents[1] / "mask" / path.name)
    return mask > mask.max() / 2
