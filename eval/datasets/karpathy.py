"""Flickr30K and COCO in Karpathy's splits, with boxes from Entities or from a detector, and with finer captions.

Files (F is FOIR_DATA/flickr30k, C is FOIR_DATA/coco):
- F/dataset_flickr30k.json, F/flickr30k-images/; C/dataset_coco.json, C/val2014/: images and captions of the splits;
- F/flickr30k_entities/Annotations/*.xml: Flickr30K Entities; C/coco_entities_release.json: COCO Entities;
- F/Flickr30K_FG.json, C/MSCOCO_FG_ann.json: finer captions (MSCOCO-FG and Flickr30K-FG, SIGIR 2023), {name: captions};
- F/detections.json, C/detections_val2014.json: a detector's boxes as COCO results, [{image_id, bbox, score}]; optional.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # noqa: S405 - official annotation files that the user put there

from foir import hub
from foir.errors import Unavailable
from foir.prompts import Box

from .base import Boxes, CaptionedDataset, Download, corners, image_file, register, require

MIN_SCORE = 0.3  # of a detection; the paper does not state its threshold
_BoxesByName = Mapping[str, Boxes]


@dataclass(frozen=True)
class _Source:
    """The files of a collection.

    Attributes:
        folder: Under FOIR_DATA.
        splits: Karpathy's file.
        images: Folder of the images; empty where the splits' `filepath` names it.
        finer: File of the finer captions.
        detections: File of a detector's boxes.
        annotated: Returns the Entities' boxes of images by name.
        size_boxes: The boxes that define object sizes: the paper uses Entities for Flickr30K, detections for COCO.
    """

    folder: str
    splits: str
    images: str
    finer: str
    detections: str
    annotated: Callable[[Path, Sequence[str]], _BoxesByName]
    size_boxes: str


def flickr_boxes(folder: Path, names: Sequence[str]) -> _BoxesByName:
    """Flickr30K Entities: XML with corners that count from 1; an object without a box ("scene") has none."""
    boxes = {}
    for name in names:
        path = folder / "flickr30k_entities" / "Annotations" / f"{name}.xml"
        require(path, "An annotation of Flickr30K Entities")
        try:
            root = ElementTree.parse(path).getroot()  # noqa: S314 - see above
            boxes[name] = tuple(_inclusive_corners(box) for box in root.iter("bndbox"))
        except (ElementTree.ParseError, ValueError) as error:
            raise Unavailable(f"The annotation {path} is damaged: restore it.") from error
    return boxes


def coco_boxes(folder: Path, names: Sequence[str]) -> _BoxesByName:
    """COCO Entities: {image id: {caption: {"detections": {noun: [[score or class, [x0, y0, x1, y1]], ...]}}}}."""
    data = _json(folder / "coco_entities_release.json", "COCO Entities (coco_entities_release.json)")
    boxes = {}
    for name in names:
        captions = data.get(_number(name), {})  # five images of the test split have none
        detections = [
            pair for caption in captions.values() for pairs in caption["detections"].values() for pair in pairs
        ]
        unique = dict.fromkeys(tuple(map(float, box)) for _, box in detections)  # several captions share a box
        boxes[name] = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in unique)
    return boxes


FLICKR = _Source(
    "flickr30k", "dataset_flickr30k.json", "flickr30k-images", "Flickr30K_FG.json", "detections.json", flickr_boxes,
    "annotated",
)  # fmt: skip
COCO = _Source("coco", "dataset_coco.json", "", "MSCOCO_FG_ann.json", "detections_val2014.json", coco_boxes, "detected")


def _load(name: str, source: _Source, split: str = "test", *, finer: bool = False) -> CaptionedDataset:
    """The test photos, or those of the validation split, with the usual or with finer captions."""
    try:
        return _build(name, source, split, finer)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        folder = hub.data_folder() / source.folder
        raise Unavailable(f"An annotation file of {name} in {folder} is damaged: {error!r}.") from error


def _build(name: str, source: _Source, split: str, finer: bool) -> CaptionedDataset:
    folder = hub.data_folder() / source.folder
    images = _json(folder / source.splits, f"Karpathy's split {source.splits}")["images"]
    entries = [entry for entry in images if entry["split"] == split]
    names = [Path(entry["filename"]).stem for entry in entries]
    captions = {name: _captions(entry) for name, entry in zip(names, entries, strict=True)}
    if finer:
        refined = _json(folder / source.finer, f"The finer captions {source.finer}")
        names = [name for name in names if name in refined]
        captions = {name: tuple(refined[name]) for name in names}
    paths = {Path(entry["filename"]).stem: _path(folder, source, entry) for entry in entries}
    boxes = {"annotated": source.annotated(folder, names)}
    if (folder / source.detections).exists():
        boxes["detected"] = _detected_boxes(folder / source.detections, names)
    return CaptionedDataset(
        name,
        tuple(image_file(paths[name]) for name in names),
        tuple(captions[name] for name in names),
        boxes={kind: tuple(by_name[name] for name in names) for kind, by_name in boxes.items()},
        size_boxes=source.size_boxes,
    )


def _captions(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The first five, as is usual; a few images of COCO have more."""
    return tuple(sentence["raw"].strip() for sentence in entry["sentences"][:5])


def _path(folder: Path, source: _Source, entry: Mapping[str, Any]) -> Path:
    return folder / (source.images or entry["filepath"]) / entry["filename"]


def _inclusive_corners(box: ElementTree.Element) -> Box:
    x0, y0, x1, y1 = (float(box.findtext(corner) or "") for corner in ("xmin", "ymin", "xmax", "ymax"))
    return x0 - 1, y0 - 1, x1, y1  # the last pixel belongs to the box


def _detected_boxes(path: Path, names: Sequence[str]) -> _BoxesByName:
    """A detector's confident boxes; `image_id` is a file's name or the number in it."""
    by_id = {_number(name): name for name in names} | {name: name for name in names}
    boxes: dict[str, list[Box]] = {name: [] for name in names}
    matched = False
    for detection in _json(path, "A detector's boxes"):
        name = by_id.get(str(detection["image_id"]))
        matched = matched or name is not None
        if name is not None and detection["score"] >= MIN_SCORE:
            boxes[name].append(corners(detection["bbox"]))
    if not matched:
        raise Unavailable(f"None of the boxes in {path} is on an image of this split.")
    return {name: tuple(image_boxes) for name, image_boxes in boxes.items()}


def _number(name: str) -> str:
    """The number of an image: COCO_val2014_000000000007 is 7."""
    return name.rpartition("_")[2].lstrip("0")


def _json(path: Path, description: str) -> Any:
    try:
        return json.loads(require(path, description).read_text())
    except ValueError as error:
        raise Unavailable(f"{path} is damaged: restore it.") from error


_FINER = "from https://github.com/cwj1412/MSCOCO-Flikcr30K_FG"
_DETECTIONS = "Detect the objects with any detector and write them as COCO results ([{image_id, bbox, score}])"


def _downloads(source: _Source, images: Download, entities: Download) -> tuple[Download, ...]:
    """What the usual test split needs; `finer captions` come on top."""
    folder = source.folder
    return (
        Download(
            (f"{folder}/{source.splits}",),
            "Download https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip and unpack "
            f"{source.splits} into FOIR_DATA/{folder}.",
        ),
        images,
        entities,
        Download(
            (f"{folder}/{source.detections}",),
            f"{_DETECTIONS} to FOIR_DATA/{folder}/{source.detections}.",
            rows="detected boxes",
        ),
    )


_FLICKR = _downloads(
    FLICKR,
    Download(
        ("flickr30k/flickr30k-images/*.jpg",),
        "Ask for the images of Flickr30K by the form on https://shannon.cs.illinois.edu/DenotationGraph/ and unpack "
        "them into FOIR_DATA/flickr30k/flickr30k-images.",
    ),
    Download(
        ("flickr30k/flickr30k_entities/Annotations/*.xml",),
        "git clone https://github.com/BryanPlummer/flickr30k_entities into FOIR_DATA/flickr30k and unpack its "
        "annotations.zip there.",
    ),
)
_COCO = _downloads(
    COCO,
    Download(
        ("coco/val2014/*.jpg",),
        "Download val2014.zip (6 GB) from https://cocodataset.org/#download and unpack it into FOIR_DATA/coco.",
    ),
    Download(
        ("coco/coco_entities_release.json",),
        "Download coco_entities_release.json by the link on https://github.com/aimagelab/show-control-and-tell into "
        "FOIR_DATA/coco.",
    ),
)
for _name, _finer, _source, _files, _size in (
    ("flickr30k", "flickr-fg", FLICKR, _FLICKR, 1000), ("coco-5k", "coco-fg", COCO, _COCO, 5000),
):  # fmt: skip
    _captions_file = Download(
        (f"{_source.folder}/{_source.finer.partition('_ann')[0].removesuffix('.json')}*.json",),
        f"Copy {_source.finer} {_FINER} into FOIR_DATA/{_source.folder}.",
    )
    _val = {"images": 1014 if _source is FLICKR else _size}
    register(_name, CaptionedDataset, *_files, sizes={"images": _size})(partial(_load, _name, _source))
    register(f"{_name}-val", CaptionedDataset, *_files, sizes=_val)(
        partial(_load, f"{_name}-val", _source, split="val")
    )
    register(_finer, CaptionedDataset, *_files, _captions_file)(partial(_load, _finer, _source, finer=True))
