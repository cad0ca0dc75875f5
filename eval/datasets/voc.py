"""voc: PASCAL VOC in the VOCdevkit layout; test2007 has the queries, trainval2007 and trainval2012 are the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree  # noqa: S405 - official annotation files that the user put there

from foir import hub
from foir.errors import Unavailable
from foir.prompts import Prompt

from .base import Dataset, ImageLoader, Query, multi_hot, require
from .checks import image_files
from .registry import Download, register

CATEGORIES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _year(year: str, splits: tuple[str, ...], archives: str) -> Download:
    """The files of one challenge."""
    parts = (*(f"ImageSets/Main/{split}.txt" for split in splits), "Annotations/*.xml", "JPEGImages/*.jpg")
    page = f"http://host.robots.ox.ac.uk/pascal/VOC/{year.lower()}/"
    return Download(
        tuple(f"VOCdevkit/{year}/{part}" for part in parts), f"Download {archives} from {page} and unpack in FOIR_DATA."
    )


VOC2007 = _year("VOC2007", ("trainval", "test"), "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar")
VOC2012 = _year("VOC2012", ("trainval",), "VOCtrainval_11-May-2012.tar")


@register("voc", Dataset, VOC2007, VOC2012, sizes={"boxes": 14_976})
def voc() -> Dataset:
    """Every annotated box of test2007 is a query, the difficult ones too (PHS paper)."""
    folder = require(
        hub.data_folder() / "VOCdevkit", "PASCAL VOC (VOCdevkit with VOC2007 trainval and test, and VOC2012)"
    )
    test = _annotation_files(folder / "VOC2007", "test")
    train = _annotation_files(folder / "VOC2007", "trainval") + _annotation_files(folder / "VOC2012", "trainval")
    labels = multi_hot(([category for category, _ in _objects(path)] for path in train), len(CATEGORIES))
    queries = [Query(row, box, category) for row, path in enumerate(test) for category, box in _objects(path)]
    return Dataset("voc", _loaders(train), labels, tuple(queries), _loaders(test), CATEGORIES)


def _annotation_files(year: Path, split: str) -> list[Path]:
    """The annotation files of a split, in its order."""
    path = require(year / "ImageSets" / "Main" / f"{split}.txt", f"The {split} list of {year.name}")
    return [year / "Annotations" / f"{name}.xml" for name in path.read_text().split()]


def _loaders(annotations: Sequence[Path]) -> tuple[ImageLoader, ...]:
    return image_files([path.parents[1] / "JPEGImages" / f"{path.stem}.jpg" for path in annotations])


def _objects(path: Path) -> list[tuple[int, Prompt]]:
    """Category and box of every object; VOC counts pixels from 1 and includes the last one."""
    try:
        objects = []
        for item in ElementTree.parse(path).iter("object"):  # noqa: S314 - see above
            sides = ("xmin", "ymin", "xmax", "ymax")
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{side}", "")) for side in sides)
            objects.append((CATEGORIES.index(item.findtext("name", "")), Prompt.box(x0 - 1, y0 - 1, x1, y1)))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise Unavailable(f"The VOC annotation {path} is missing or damaged: put it back.") from error
    return objects
