"""coco_hub: COCO 2017 from the parquet repository detection-datasets/coco on the Hugging Face Hub.

Unlike the official files it has no crowd flags (crowds are queries here too), no masks, and only the images with at
least one object: 4,952 query images and a gallery of 117,266. Use `coco` for the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from foir import hub
from foir.errors import Unavailable
from foir.masks import as_corners
from foir.prompts import Prompt

from .base import Dataset, ImageLoader, Query, multi_hot, read_stored
from .registry import Download, register

if TYPE_CHECKING:
    import datasets

REPOSITORY = "detection-datasets/coco"
TABLES = Download((), f"hf download {REPOSITORY} --repo-type dataset", repository=REPOSITORY)


def _count(folder: Path) -> dict[str, int]:
    """Rows by the files' own counts; loading them would copy all images."""
    from pyarrow import parquet

    splits = {"query images": "val", "gallery": "train"}
    return {
        name: sum(parquet.read_metadata(path).num_rows for path in folder.glob(f"data/{split}-*.parquet"))
        for name, split in splits.items()
    }


@register("coco_hub", Dataset, TABLES, sizes={"query images": 4952, "gallery": 117_266, "boxes": 36_781}, count=_count)
def coco_hub() -> Dataset:
    """Every box of the `val` files is a query; the images of the `train` files are the gallery."""
    folder = hub.download_tables(REPOSITORY) / "data"
    val, train = (_split(str(folder / f"{split}-*.parquet")) for split in ("val", "train"))
    categories = tuple(train.features["objects"]["category"].feature.names)
    labels = multi_hot((objects["category"] for objects in train["objects"]), len(categories))
    return Dataset("coco_hub", _loaders(train), labels, _queries(val["objects"]), _loaders(val), categories)


def _split(files: str) -> datasets.Dataset:
    """The rows of parquet files; images stay encoded, because only foir.images decodes."""
    from datasets import Image as ImageColumn
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset("parquet", data_files=files, split="train").cast_column("image", ImageColumn(decode=False))
    except (DatasetsError, OSError, KeyError, ValueError) as error:
        raise Unavailable(f"{files} is missing or damaged, or has no images: fetch {REPOSITORY} again.") from error


def _loaders(split: datasets.Dataset) -> tuple[ImageLoader, ...]:
    return tuple(partial(_image, split, row) for row in range(len(split)))


def _image(split: datasets.Dataset, row: int) -> Image.Image:
    entry = split[row]
    return read_stored(
        entry["image"]["bytes"], (entry.get("width"), entry.get("height")), f"image {row} of {REPOSITORY}"
    )


def _queries(objects: Sequence[dict[str, Any]]) -> tuple[Query, ...]:
    categories = [(row, category) for row, entry in enumerate(objects) for category in entry["category"]]
    boxes = as_corners([box for entry in objects for box in entry["bbox"]])
    return tuple(Query(row, Prompt.box(*box), kind) for (row, kind), box in zip(categories, boxes, strict=True))
