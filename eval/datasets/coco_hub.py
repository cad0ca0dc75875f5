"""coco_hub: COCO 2017 from the parquet repository detection-datasets/coco on the Hugging Face Hub.

Beside the official files it has no crowd flags (crowds are queries here too), no outlines, and only the pictures with
at least one object: 4,952 ask, 117,266 are the gallery. For the paper's numbers use `coco`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eval.datasets import Dataset, ImageLoader, Query, dataset
from foir import hub, images
from foir.errors import Unavailable
from foir.masks import as_corners
from foir.prompts import Prompt

if TYPE_CHECKING:
    import datasets

REPOSITORY = "detection-datasets/coco"


@dataset("coco_hub")
def coco_hub() -> Dataset:
    """Every box of the `val` files is a query, the pictures of the `train` files are the gallery."""
    folder = hub.download_tables(REPOSITORY) / "data"
    asked, kept = (_split(str(folder / f"{split}-*.parquet")) for split in ("val", "train"))
    kinds = tuple(kept.features["objects"]["category"].feature.names)
    things = kept["objects"]
    labels = np.zeros((len(kept), len(kinds)), bool)
    for row, found in enumerate(things):
        labels[row, found["category"]] = True
    return Dataset("coco_hub", _pictures(kept), labels, _queries(asked["objects"]), _pictures(asked), kinds)


def _split(files: str) -> datasets.Dataset:
    """The rows of some parquet files, pictures as the bytes they are: foir.images alone decodes."""
    from datasets import Image as Picture
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset("parquet", data_files=files, split="train").cast_column("image", Picture(decode=False))
    except (DatasetsError, OSError, KeyError, ValueError) as error:
        raise Unavailable(f"{files} is missing or damaged, or has no pictures: fetch {REPOSITORY} again.") from error


def _pictures(split: datasets.Dataset) -> tuple[ImageLoader, ...]:
    return tuple(partial(_picture, split, row) for row in range(len(split)))


def _picture(split: datasets.Dataset, row: int) -> Image.Image:
    return images.read(split[row]["image"]["bytes"]).image


def _queries(things: Sequence[dict[str, Any]]) -> tuple[Query, ...]:
    named = [(row, kind) for row, found in enumerate(things) for kind in found["category"]]
    boxes = as_corners([box for found in things for box in found["bbox"]])
    return tuple(Query(row, Prompt.box(*box), kind) for (row, kind), box in zip(named, boxes, strict=True))
