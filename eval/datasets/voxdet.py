"""voxdet: VoxDet's real test scenes (RoboTools) as the gallery, the objects of its turntable videos as queries."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from PIL import Image

from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

from .base import Download, InstanceDataset, InstanceQuery, Scene, corners, image_file, register, require

SUFFIXES = {".jpg", ".png"}


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
    annotations: dict[int, list[tuple[int, DetectedObject]]] = {entry["id"]: [] for entry in data["images"]}
    for annotation in data["annotations"]:
        detected = DetectedObject(corners(annotation["bbox"]))
        annotations[annotation["image_id"]].append((annotation["category_id"], detected))
    scenes = tuple(
        Scene(
            image_file(folder / "test" / entry["file_name"]),
            partial(_objects, annotations[entry["id"]]),
            frozenset(str(category) for category, _ in annotations[entry["id"]]),
        )
        for entry in data["images"]
    )
    present = frozenset().union(*(scene.instances for scene in scenes))
    queries = [
        InstanceQuery(partial(_query_image, path), str(int(video.name.rpartition("_")[2])))
        for video in sorted((folder / "test_video").iterdir())
        for path in sorted((video / "rgb").glob("*"))
        if path.suffix in SUFFIXES
    ]
    findable = tuple(query for query in queries if query.instance in present)
    if not findable:
        raise Unavailable(f"No object of {folder / 'test_video'} is on a scene of {folder / 'test'}.")
    return InstanceDataset("voxdet", scenes, findable)


def _objects(annotations: list[tuple[int, DetectedObject]]) -> tuple[DetectedObject, ...]:
    return tuple(detected for _, detected in annotations)


def _query_image(path: Path) -> Image.Image:
    mask = images.read_mask(path.parents[1] / "mask" / path.name)
    return crop_around(images.read(path).image, bounds(mask > mask.max() / 2))
