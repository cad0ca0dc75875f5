"""visual_genome: its 100 most frequent objects; the test list asks, the train list is the gallery.

Lists: test_list_500.txt and train_list_500.txt of the SSGRL multi-label repository, as in the PHS paper, section 4.1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.datasets import Dataset, ImageLoader, Query, dataset, image_file, require
from foir import hub
from foir.errors import Unavailable
from foir.prompts import Prompt

KEPT = 100
FOLDERS = ("VG_100K", "VG_100K_2")
NEEDS = (
    "Visual Genome (objects.json, object_alias.txt, VG_100K/ and VG_100K_2/ of visualgenome.org; train_list_500.txt "
    "and test_list_500.txt of the SSGRL repository)"
)


@dataset("visual_genome")
def visual_genome() -> Dataset:
    """Aliases are merged, the 100 names with most boxes kept, query pictures without any of them dropped."""
    folder = require(hub.data_folder() / "visual_genome", NEEDS)
    alias = _aliases(require(folder / "object_alias.txt", NEEDS))
    things = {
        entry["image_id"]: [(name, thing) for thing in entry["objects"] if (name := _name(thing, alias))]
        for entry in json.loads(require(folder / "objects.json", NEEDS).read_text())
    }
    asked, gallery = (_listed(require(folder / f"{split}_list_500.txt", NEEDS)) for split in ("test", "train"))
    counts = Counter(name for number in (*asked, *gallery) for name, _ in things.get(number, ()))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))[:KEPT]
    kinds = {name: i for i, name in enumerate(ranked)}
    asked = [number for number in asked if any(name in kinds for name, _ in things.get(number, ()))]
    labels = np.zeros((len(gallery), len(kinds)), bool)
    for row, number in enumerate(gallery):
        labels[row, [kinds[name] for name, _ in things.get(number, ()) if name in kinds]] = True
    queries = [
        Query(row, Prompt.box(thing["x"], thing["y"], thing["x"] + thing["w"], thing["y"] + thing["h"]), kinds[name])
        for row, number in enumerate(asked)
        for name, thing in things[number]
        if name in kinds
    ]
    return Dataset(
        "visual_genome", _files(folder, gallery), labels, tuple(queries), _files(folder, asked), tuple(kinds)
    )


def _aliases(path: Path) -> dict[str, str]:
    """Each name to the first of its line."""
    lines = [[word.strip() for word in line.split(",")] for line in path.read_text(encoding="utf-8").splitlines()]
    return {word: words[0] for words in lines for word in words if word}


def _name(thing: Mapping[str, Any], alias: Mapping[str, str]) -> str | None:
    """What an object is called after aliases; None where it has no name or no extent."""
    if not thing["names"] or thing["w"] <= 0 or thing["h"] <= 0:
        return None
    name = thing["names"][0].strip().lower()
    return alias.get(name, name) or None


def _listed(path: Path) -> list[int]:
    """Picture numbers of a list of file names."""
    return [int(Path(line).stem) for line in path.read_text().split()]


def _files(folder: Path, numbers: Sequence[int]) -> tuple[ImageLoader, ...]:
    names = {path.name: path for part in FOLDERS for path in (folder / part).glob("*.jpg")}
    absent = next((number for number in numbers if f"{number}.jpg" not in names), None)
    if absent is not None:
        raise Unavailable(f"The picture {absent}.jpg is in neither {' nor '.join(FOLDERS)} under {folder}.")
    return tuple(image_file(names[f"{number}.jpg"]) for number in numbers)
