"""visual_genome: the 100 most frequent objects; the test list has the queries, the train list is the gallery.

Lists: test_list_500.txt and train_list_500.txt of the SSGRL multi-label repository, as in the PHS paper, section 4.1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foir import hub
from foir.errors import Unavailable
from foir.prompts import Prompt

from .base import Dataset, ImageLoader, Query, corners, image_file, multi_hot, require
from .checks import checked_annotations
from .registry import Download, register

CATEGORIES = 100
FOLDERS = ("VG_100K", "VG_100K_2")
DESCRIPTION = (
    "Visual Genome (objects.json, object_alias.txt, VG_100K/ and VG_100K_2/ of visualgenome.org; train_list_500.txt "
    "and test_list_500.txt of the SSGRL repository)"
)


IMAGES = Download(
    tuple(f"visual_genome/{folder}/*.jpg" for folder in FOLDERS),
    "Download images.zip (9 GB) and images2.zip (5 GB) from "
    "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html and unpack them into FOIR_DATA/visual_genome.",
)
OBJECTS = Download(
    ("visual_genome/objects.json", "visual_genome/object_alias.txt"),
    "Download the objects (objects.json.zip, version 1.4) and object_alias.txt from "
    "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html into FOIR_DATA/visual_genome and unpack them.",
)
LISTS = Download(
    tuple(f"visual_genome/{split}_list_500.txt" for split in ("train", "test")),
    "Copy train_list_500.txt and test_list_500.txt from data/VG of https://github.com/HCPLab-SYSU/SSGRL into "
    "FOIR_DATA/visual_genome.",
)


@register("visual_genome", Dataset, IMAGES, OBJECTS, LISTS)
def visual_genome() -> Dataset:
    """Aliases are merged, the 100 names with most boxes kept, query images without any of them dropped."""
    folder = require(hub.data_folder() / "visual_genome", DESCRIPTION)
    alias = _aliases(require(folder / "object_alias.txt", DESCRIPTION))
    text = require(folder / "objects.json", DESCRIPTION).read_bytes()
    with checked_annotations(folder / "objects.json"):
        objects = {
            entry["image_id"]: [(name, item) for item in entry["objects"] if (name := _name(item, alias))]
            for entry in json.loads(text)
        }
    test, train = (
        _image_numbers(require(folder / f"{split}_list_500.txt", DESCRIPTION)) for split in ("test", "train")
    )
    with checked_annotations(folder / "objects.json"):
        counts = Counter(name for number in (*test, *train) for name, _ in objects.get(number, ()))
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:CATEGORIES]
        columns = {name: i for i, name in enumerate(frequent)}
        test = [number for number in test if any(name in columns for name, _ in objects.get(number, ()))]
        present = [[columns[name] for name, _ in objects.get(number, ()) if name in columns] for number in train]
        queries = [
            Query(row, Prompt.box(*corners([item[side] for side in "xywh"])), columns[name])
            for row, number in enumerate(test)
            for name, item in objects[number]
            if name in columns
        ]
    labels = multi_hot(present, len(columns))
    return Dataset(
        "visual_genome", _loaders(folder, train), labels, tuple(queries), _loaders(folder, test), tuple(columns)
    )


def _aliases(path: Path) -> dict[str, str]:
    """Maps each name to the first name on its line."""
    lines = [[word.strip() for word in line.split(",")] for line in path.read_text(encoding="utf-8").splitlines()]
    return {word: words[0] for words in lines for word in words if word}


def _name(item: Mapping[str, Any], alias: Mapping[str, str]) -> str | None:
    """An object's name after aliases; None where it has no name or no extent."""
    if not item["names"] or item["w"] <= 0 or item["h"] <= 0:
        return None
    name = item["names"][0].strip().lower()
    return alias.get(name, name) or None


def _image_numbers(path: Path) -> list[int]:
    """Image numbers of a list of file names."""
    return [int(Path(line).stem) for line in path.read_text().split()]


def _loaders(folder: Path, numbers: Sequence[int]) -> tuple[ImageLoader, ...]:
    paths = {path.name: path for subfolder in FOLDERS for path in (folder / subfolder).glob("*.jpg")}
    missing = next((number for number in numbers if f"{number}.jpg" not in paths), None)
    if missing is not None:
        raise Unavailable(f"The image {missing}.jpg is in neither {' nor '.join(FOLDERS)} under {folder}.")
    return tuple(image_file(paths[f"{number}.jpg"]) for number in numbers)
