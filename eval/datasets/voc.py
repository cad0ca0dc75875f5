"""voc: PASCAL VOC in the official VOCdevkit layout; test2007 asks, trainval2007 and trainval2012 are the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree  # noqa: S405 - official annotation files that the user put there

import numpy as np

from eval.datasets import Dataset, Query, dataset, image_file, require
from foir import hub
from foir.errors import Unavailable
from foir.prompts import Prompt

CATEGORIES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataset("voc")
def voc() -> Dataset:
    """Every annotated box of test2007 is a query, the difficult ones too (PHS spec, section 1)."""
    folder = require(
        hub.data_folder() / "VOCdevkit", "PASCAL VOC (VOCdevkit with VOC2007 trainval and test, and VOC2012)"
    )
    asked = _listed(folder / "VOC2007", "test")
    kept = _listed(folder / "VOC2007", "trainval") + _listed(folder / "VOC2012", "trainval")
    labels = np.zeros((len(kept), len(CATEGORIES)), bool)
    for row, picture in enumerate(kept):
        labels[row, [kind for kind, _ in _objects(picture)]] = True
    queries = [Query(row, box, kind) for row, picture in enumerate(asked) for kind, box in _objects(picture)]
    return Dataset("voc", _files(kept), labels, tuple(queries), _files(asked), CATEGORIES)


def _listed(year: Path, split: str) -> list[Path]:
    """The annotation files of a split, in its order."""
    names = require(year / "ImageSets" / "Main" / f"{split}.txt", f"The {split} list of {year.name}").read_text().split()
    return [year / "Annotations" / f"{name}.xml" for name in names]


def _files(annotations: Sequence[Path]) -> tuple:
    return tuple(image_file(path.parents[1] / "JPEGImages" / f"{path.stem}.jpg") for path in annotations)


def _objects(annotation: Path) -> list[tuple[int, Prompt]]:
    """Category and box of every object; VOC counts pixels from 1 and includes the last one."""
    try:
        tree = ElementTree.parse(annotation)  # noqa: S314 - see above
        found = []
        for thing in tree.iter("object"):
            corners = [float(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            x0, y0, x1, y1 = corners
            found.append((CATEGORIES.index(thing.findtext("name", "")), Prompt.box(x0 - 1, y0 - 1, x1, y1)))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise Unavailable(f"The VOC annotation {annotation} is missing or damaged: put it back.") from error
    return found
