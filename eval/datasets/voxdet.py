"""voxdet: VoxDet's real test scenes (RoboTools) searched for the objects of its turntable videos."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from PIL import Image

from eval.datasets import InstanceDataset, Scene, InstanceQuery, image_file, instances, require
from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

SUFFIXES = {".jpg", ".png"}


@instances("voxdet")
def voxdet() -> InstanceDataset:
    """Every frame of a test video asks for its object; how many of them the paper asks with is not known."""
    folder = require(hub.data_folder() / "VoxDet" / "RoboTools", "VoxDet's RoboTools (test/, test_video/)")
    data = json.loads(require(folder / "test" / "scene_gt_coco_all.json", "VoxDet's annotation file").read_text())
    on: dict[int, list[tuple[int, DetectedObject]]] = {entry["id"]: [] for entry in data["images"]}
    for note in data["annotations"]:
        x, y, width, height = note["bbox"]
        on[note["image_id"]].append((note["category_id"], DetectedObject((x, y, x + width, y + height))))
    scenes = tuple(
        Scene(
            image_file(folder / "test" / entry["file_name"]),
            partial(_things, on[entry["id"]]),
            frozenset(str(kind) for kind, _ in on[entry["id"]]),
        )
        for entry in data["images"]
    )
    there = frozenset().union(*(scene.instances for scene in scenes))
    queries = [
        InstanceQuery(partial(_cut_out, path, path.parents[1] / "mask" / path.name), str(int(video.name.rpartition("_")[2])))
        for video in sorted((folder / "test_video").iterdir())
        for path in sorted((video / "rgb").glob("*"))
        if path.suffix in SUFFIXES
    ]
    asked = tuple(query for query in queries if query.instance in there)
    if not asked:
        raise Unavailable(f"No object of {folder / 'test_video'} is on a scene of {folder / 'test'}.")
    return InstanceDataset("voxdet", scenes, asked)


def _things(found: list[tuple[int, DetectedObject]]) -> tuple[DetectedObject, ...]:
    return tuple(thing for _, thing in found)


def _cut_out(picture: Path, mask: Path) -> Image.Image:
    shown = images.read_mask(mask)
    return crop_around(images.read(picture).image, bounds(shown > shown.max() / 2))
