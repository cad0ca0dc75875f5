"""A detector's boxes as COCO results: [{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...].

`image_id` is the name of the photo's file without extension, or the number in it. Only `image_id`, `bbox` and `score`
are read. `python -m eval detect` writes such files and adds "detector", the weights that found the box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foir.errors import Unavailable
from foir.prompts import Box

from .base import Boxes, corners, read_json

MIN_SCORE = 0.3  # of a box that is used; the Q-Pert paper does not state its threshold


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a file.

    Raises:
        Unavailable: It is missing or damaged.
    """
    entries = read_json(path, "A detector's boxes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Unavailable(f"{path} is no list of COCO results: restore it.")
    return entries


def read_detections(path: Path, names: Sequence[str]) -> tuple[Mapping[str, Boxes], str]:
    """The boxes of each photo with a score of at least `MIN_SCORE`, and their detector ("unnamed" if none is named).

    Raises:
        Unavailable: The file is missing or damaged, or has no box on any of these photos.
    """
    by_id = {image_number(name): name for name in names} | {name: name for name in names}
    boxes: dict[str, list[Box]] = {name: [] for name in names}
    matched, detectors = False, set[str]()
    for detection in read_entries(path):
        detectors.add(str(detection.get("detector", "unnamed")))
        name = by_id.get(str(detection["image_id"]))
        matched = matched or name is not None
        if name is not None and detection["score"] >= MIN_SCORE:
            boxes[name].append(corners(detection["bbox"]))
    if not matched:
        raise Unavailable(f"None of the boxes in {path} is on an image of this split.")
    return {name: tuple(image_boxes) for name, image_boxes in boxes.items()}, ", ".join(sorted(detectors))


def image_number(name: str) -> str:
    """The number in a photo's name: COCO_val2014_000000000007 is 7."""
    return name.rpartition("_")[2].lstrip("0")
