"""voxdet: VoxDet's real test scenes (RoboTools) as the gallery, the objects of its turntable videos as queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import Box, bounds
from foir.small_objects.crops import DetectedObject, crop_around

from .base import Download, InstanceDataset, InstanceQuery, Scene, corners, image_file, image_size, register, require

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


@register("voxdet", InstanceDataset, ROBOTOOLS)
def voxdet() -> InstanceDataset:
    """Every frame of a test video is a query; the paper does not state how many of them it uses."""
    folder = require(hub.data_folder() / "VoxDet" / "RoboTools", "VoxDet's RoboTools (test/, test_video/)")
    data = json.loads(require(folder / "test" / "scene_gt_coco_all.json", "VoxDet's annotation file").read_text())
    annotations: dict[int, list[_Annotation]] = {entry["id"]: [] for entry in data["images"]}
    for annotation in data["annotations"]:
        annotations[annotation["image_id"]].append((str(annotation["category_id"]), corners(annotation["bbox"])))
    scenes = tuple(_scene(folder / "test" / entry["file_name"], annotations[entry["id"]]) for entry in data["images"])
    present = {instance for scene in scenes for instance in scene.areas}
    queries = [
        InstanceQuery(partial(_query_image, path), str(int(video.name.rpartition("_")[2])))
        for video in sorted((folder / "test_video").iterdir())
        for path in sorted((video / "rgb").glob("*"))
        if path.suffix in SUFFIXES
    ]
    findable = tuple(query for query in queries if query.instance in present)
    if not findable:
        raise Unavailable(f"No object of {folder / 'test_video'} is on a scene of {folder / 'test'}.")
    return InstanceDataset("voxdet", scenes, findable, has_masks=False)


def _scene(path: Path, annotations: Sequence[_Annotation]) -> Scene:
    width, height = image_size(path)
    areas: dict[str, float | None] = {}
    for instance, (x0, y0, x1, y1) in annotations:
        areas[instance] = max(areas.get(instance) or 0.0, (x1 - x0) * (y1 - y0) / (width * height))
    return Scene(image_file(path), partial(_objects, annotations), areas, len(annotations))


def _objects(annotations: Sequence[_Annotation]) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(box) for _, box in annotations)


def _query_image(path: Path) -> Image.Image:
    mask = images.read_mask(path.parents[1] / "mask" / path.name)
    return crop_around(images.read(path).image, bounds(mask > mask.max() / 2))
