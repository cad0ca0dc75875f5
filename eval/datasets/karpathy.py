"""Flickr30K and COCO by Karpathy's splits, with the boxes of their Entities or of a detector, and with finer captions.

What must lie where (F is FOIR_DATA/flickr30k, C is FOIR_DATA/coco):
- F/dataset_flickr30k.json, F/flickr30k-images/; C/dataset_coco.json, C/val2014/: pictures and captions of the splits;
- F/flickr30k_entities/Annotations/*.xml: Flickr30K Entities; C/coco_entities_release.json: COCO Entities;
- F/Flickr30K_FG.json, C/MSCOCO_FG_ann.json: finer captions (MSCOCO-FG and Flickr30K-FG, SIGIR 2023), {name: captions};
- F/detections.json, C/detections_val2014.json: a detector's boxes as COCO results, [{image_id, bbox, score}]; optional.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # noqa: S405 - official annotation files that the user put there

from eval.datasets import Boxes, CaptionedDataset, captioned, image_file, require
from foir import hub
from foir.errors import Unavailable

CONFIDENT = 0.3  # least score of a detection that counts; the paper does not give its own
_Known = Mapping[str, Boxes]


@dataclass(frozen=True)
class _Source:
    """Where a collection keeps what.

    Attributes:
        folder: Under FOIR_DATA.
        splits: Karpathy's file.
        pictures: Folder of the pictures, or of the folders that the splits' `filepath` names.
        finer: File of the finer captions.
        detections: File of a detector's boxes.
        annotated: Gives the Entities' boxes of some pictures.
        binned: Which boxes say how large a picture's objects are: the paper takes Entities for Flickr30K, detections
            for COCO.
    """

    folder: str
    splits: str
    pictures: str
    finer: str
    detections: str
    annotated: Callable[[Path, Sequence[str]], _Known]
    binned: str


def flickr_boxes(folder: Path, names: Sequence[str]) -> _Known:
    """Flickr30K Entities: XML with corners that count from 1; an object without a box ("scene") has none."""
    found = {}
    for name in names:
        path = require(
            folder / "flickr30k_entities" / "Annotations" / f"{name}.xml", "An annotation of Flickr30K Entities"
        )
        try:
            notes = ElementTree.parse(path).getroot()  # noqa: S314 - see above
            found[name] = tuple(_corners(box) for box in notes.iter("bndbox"))
        except (ElementTree.ParseError, ValueError) as error:
            raise Unavailable(f"The annotation {path} is damaged: restore it.") from error
    return found


def coco_boxes(folder: Path, names: Sequence[str]) -> _Known:
    """COCO Entities: {image id: {caption: {"detections": {noun: [[score or class, [x0, y0, x1, y1]], ...]}}}}."""
    data = _json(folder / "coco_entities_release.json", "COCO Entities (coco_entities_release.json)")
    found = {}
    for name in names:
        notes = data.get(_number(name), {})  # five pictures of the test split have none
        boxes = {tuple(map(float, box)): None for note in notes.values() for some in note["detections"].values()
                 for _, box in some}  # fmt: skip
        found[name] = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)  # the same box serves several captions
    return found


FLICKR = _Source(
    "flickr30k", "dataset_flickr30k.json", "flickr30k-images", "Flickr30K_FG.json", "detections.json", flickr_boxes,
    "annotated",
)  # fmt: skip
COCO = _Source("coco", "dataset_coco.json", "", "MSCOCO_FG_ann.json", "detections_val2014.json", coco_boxes, "detected")


@captioned("flickr30k")
def flickr30k() -> CaptionedDataset:
    """1,000 test photos, five captions each."""
    return _read("flickr30k", FLICKR)


@captioned("flickr30k-val")
def flickr30k_val() -> CaptionedDataset:
    """The validation split: what hyper-parameters are chosen on."""
    return _read("flickr30k-val", FLICKR, split="val")


@captioned("flickr-fg")
def flickr_fg() -> CaptionedDataset:
    """The test photos with finer captions."""
    return _read("flickr-fg", FLICKR, finer=True)


@captioned("coco-5k")
def coco_5k() -> CaptionedDataset:
    """5,000 test photos, five captions each."""
    return _read("coco-5k", COCO)


@captioned("coco-5k-val")
def coco_5k_val() -> CaptionedDataset:
    """The validation split."""
    return _read("coco-5k-val", COCO, split="val")


@captioned("coco-fg")
def coco_fg() -> CaptionedDataset:
    """The test photos with finer captions."""
    return _read("coco-fg", COCO, finer=True)


def _read(name: str, source: _Source, split: str = "test", *, finer: bool = False) -> CaptionedDataset:
    try:
        return _collected(name, source, split, finer)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        folder = hub.data_folder() / source.folder
        raise Unavailable(f"An annotation file of {name} in {folder} is damaged: {error!r}.") from error


def _collected(name: str, source: _Source, split: str, finer: bool) -> CaptionedDataset:
    folder = hub.data_folder() / source.folder
    listed = _json(folder / source.splits, f"Karpathy's split {source.splits}")["images"]
    entries = [entry for entry in listed if entry["split"] == split]
    names = [Path(entry["filename"]).stem for entry in entries]
    captions = {name: _captions(entry) for name, entry in zip(names, entries, strict=True)}
    if finer:
        refined = _json(folder / source.finer, f"The finer captions {source.finer}")
        names = [name for name in names if name in refined]
        captions = {name: tuple(refined[name]) for name in names}
    where = {Path(entry["filename"]).stem: _path(folder, source, entry) for entry in entries}
    boxes = {"annotated": source.annotated(folder, names)}
    if (folder / source.detections).exists():
        boxes["detected"] = _detected(folder / source.detections, names)
    return CaptionedDataset(
        name,
        tuple(image_file(where[name]) for name in names),
        tuple(captions[name] for name in names),
        boxes={kind: tuple(known[name] for name in names) for kind, known in boxes.items()},
        size_boxes=source.binned,
    )


def _captions(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The first five, as everybody measures; a few pictures of COCO have more."""
    return tuple(sentence["raw"].strip() for sentence in entry["sentences"][:5])


def _path(folder: Path, source: _Source, entry: Mapping[str, Any]) -> Path:
    return folder / (source.pictures or entry["filepath"]) / entry["filename"]


def _corners(box: ElementTree.Element) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(box.findtext(corner) or "") for corner in ("xmin", "ymin", "xmax", "ymax"))
    return x0 - 1, y0 - 1, x1, y1  # the last pixel belongs to the box


def _detected(path: Path, names: Sequence[str]) -> _Known:
    """A detector's confident boxes; pictures go by their file's name or by the number in it."""
    known = {_number(name): name for name in names} | {name: name for name in names}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in names}
    matched = False
    for note in _json(path, "A detector's boxes"):
        name = known.get(str(note["image_id"]))
        matched = matched or name is not None
        if name is not None and note["score"] >= CONFIDENT:
            x, y, width, height = note["bbox"]
            found[name].append((x, y, x + width, y + height))
    if not matched:
        raise Unavailable(f"None of the boxes in {path} is on a picture of this split.")
    return {name: tuple(some) for name, some in found.items()}


def _number(name: str) -> str:
    """The picture's number: COCO_val2014_000000000007 is 7."""
    return name.rpartition("_")[2].lstrip("0")


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(require(path, what).read_text())
    except ValueError as error:
        raise Unavailable(f"{path} is damaged: restore it.") from error
