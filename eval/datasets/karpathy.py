"""Flickr30K and COCO in Karpathy's splits, with boxes from Entities or from a detector, and with finer captions.

Files (F is FOIR_DATA/flickr30k, C is FOIR_DATA/coco):
- F/dataset_flickr30k.json, F/flickr30k-images/; C/dataset_coco.json, C/val2014/: images and captions of the splits;
- F/flickr30k_entities/{Annotations/*.xml,Sentences/*.txt}: Flickr30K Entities; C/coco_entities_release.json: COCO
  Entities. Without Sentences/ no row can use the "mentioned" boxes;
- F/Flickr30K_FG_ann.json, C/MSCOCO_FG_ann.json: finer captions, see `fine_captions`;
- F/detections.json, C/detections_val2014.json: a detector's boxes, see `detections`; optional.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # noqa: S405 - official annotation files that the user put there

from foir import hub
from foir.errors import Unavailable
from foir.prompts import Box

from .base import Boxes, CaptionedDataset, image_file, read_json, require
from .checks import checked_annotations
from .detections import image_number, read_detections
from .fine_captions import fine_captions
from .registry import Download, register

PHRASE = re.compile(r"\[/EN#(\d+)/")  # begins a phrase of Flickr30K Entities: [/EN#ID/TYPE words]
FINE_IMAGES = {"flickr-fg": 1000, "coco-fg": 5000}  # the paper's 5,000 and 25,000 pairs, five captions each
_BoxesByName = Mapping[str, Boxes]


@dataclass(frozen=True)
class _Source:
    """The files of a collection.

    Attributes:
        folder: Under FOIR_DATA.
        splits: Karpathy's file.
        images: Folder of the images; empty where the splits' `filepath` names it.
        finer: The stem of the finer captions' files.
        detections: File of a detector's boxes.
        entities: Returns the Entities' boxes of images by name, for each kind of boxes.
        size_boxes: The boxes that define object sizes: the paper uses Entities for Flickr30K, detections for COCO.
    """

    folder: str
    splits: str
    images: str
    finer: str
    detections: str
    entities: Callable[[Path, Sequence[str]], Mapping[str, _BoxesByName]]
    size_boxes: str


def flickr_boxes(folder: Path, names: Sequence[str]) -> Mapping[str, _BoxesByName]:
    """Flickr30K Entities: all "annotated" boxes, and with Sentences/ those that a sentence "mentioned".

    The XML's corners count from 1 and are reduced by 1, as the official parser and Q-Pert's released code do; so the
    width is xmax - xmin. An object without a box ("scene") has none.
    """
    entities = folder / "flickr30k_entities"
    has_sentences = (entities / "Sentences").exists()
    annotated, mentioned = {}, {}
    for name in names:
        path = require(entities / "Annotations" / f"{name}.xml", "An annotation of Flickr30K Entities")
        try:
            objects = list(ElementTree.parse(path).getroot().iter("object"))  # noqa: S314 - see above
            boxes = [(_phrases(thing), _corners(box)) for thing in objects for box in thing.iter("bndbox")]
        except (ElementTree.ParseError, ValueError) as error:
            raise Unavailable(f"The annotation {path} is damaged: restore it.") from error
        annotated[name] = tuple(box for _, box in boxes)
        if has_sentences:
            path = require(entities / "Sentences" / f"{name}.txt", "A file of sentences of Flickr30K Entities")
            said = set(PHRASE.findall(path.read_text(encoding="utf-8", errors="replace")))
            mentioned[name] = tuple(box for phrases, box in boxes if phrases & said)
    return {"annotated": annotated} | ({"mentioned": mentioned} if has_sentences else {})


def coco_boxes(folder: Path, names: Sequence[str]) -> Mapping[str, _BoxesByName]:
    """COCO Entities: {image id: {caption: {"detections": {noun: [[score or class, [x0, y0, x1, y1]], ...]}}}}.

    Every box belongs to a noun of a caption, so there is no other kind.
    """
    data = read_json(folder / "coco_entities_release.json", "COCO Entities (coco_entities_release.json)")
    boxes = {}
    for name in names:
        captions = data.get(image_number(name), {})  # five images of the test split have none
        detections = [
            pair for caption in captions.values() for pairs in caption["detections"].values() for pair in pairs
        ]
        unique = dict.fromkeys(tuple(map(float, box)) for _, box in detections)  # several captions share a box
        boxes[name] = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in unique)
    return {"annotated": boxes}


FLICKR = _Source(
    "flickr30k", "dataset_flickr30k.json", "flickr30k-images", "Flickr30K_FG", "detections.json", flickr_boxes,
    "annotated",
)  # fmt: skip
COCO = _Source("coco", "dataset_coco.json", "", "MSCOCO_FG", "detections_val2014.json", coco_boxes, "detected")


def photos(name: str) -> tuple[Path, dict[str, Path]]:
    """The file of a detector's boxes of a data set, and its photos by name.

    Raises:
        Unavailable: It is none of `SPLITS`, or its split is missing or damaged.
    """
    if name not in SPLITS:
        raise Unavailable(f"Detections belong to one of {', '.join(SPLITS)}, not to {name!r}.")
    source, split = SPLITS[name]
    with checked_annotations(_folder(source)):
        entries = _entries(source, split)
        return _folder(source) / source.detections, {stem: _path(source, entry) for stem, entry in entries.items()}


def _load(name: str, source: _Source, split: str = "test", *, finer: bool = False) -> CaptionedDataset:
    """The test photos, or those of the validation split, with the usual or with finer captions."""
    with checked_annotations(_folder(source)):
        return _build(name, source, split, finer)


def _build(name: str, source: _Source, split: str, finer: bool) -> CaptionedDataset:
    folder, entries = _folder(source), _entries(source, split)
    captions = {stem: _captions(entry) for stem, entry in entries.items()}
    if finer:
        captions = fine_captions(folder, source.finer, list(entries), FINE_IMAGES[name])
    names = list(captions)
    boxes, detector = dict(source.entities(folder, names)), ""
    if (folder / source.detections).exists():
        boxes["detected"], detector = read_detections(folder / source.detections, names)
    return CaptionedDataset(
        name,
        tuple(image_file(_path(source, entries[stem])) for stem in names),
        tuple(captions.values()),
        boxes={kind: tuple(by_name[stem] for stem in names) for kind, by_name in boxes.items()},
        size_boxes=source.size_boxes,
        detector=detector,
    )


def _folder(source: _Source) -> Path:
    return hub.data_folder() / source.folder


def _entries(source: _Source, split: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a split, by the photo's name."""
    images = read_json(_folder(source) / source.splits, f"Karpathy's split {source.splits}")["images"]
    return {Path(entry["filename"]).stem: entry for entry in images if entry["split"] == split}


def _captions(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The first five, as is usual; a few images of COCO have more."""
    return tuple(sentence["raw"].strip() for sentence in entry["sentences"][:5])


def _path(source: _Source, entry: Mapping[str, Any]) -> Path:
    return _folder(source) / (source.images or entry["filepath"]) / entry["filename"]


def _phrases(thing: ElementTree.Element) -> set[str]:
    """The phrases that an object belongs to."""
    return {str(name.text) for name in thing.iter("name")}


def _corners(box: ElementTree.Element) -> Box:
    x0, y0, x1, y1 = (float(box.findtext(corner) or "") - 1 for corner in ("xmin", "ymin", "xmax", "ymax"))
    return x0, y0, x1, y1


def _downloads(source: _Source, images: str, entities: Download) -> tuple[Download, ...]:
    """What a split with the usual captions needs."""
    folder = source.folder
    boxes, name = f"{folder}/{source.detections}", "flickr30k" if source is FLICKR else "coco-5k"
    command = f"python -m eval detect --model facebook/detr-resnet-50 --dataset {name}"
    return (
        Download(
            (f"{folder}/{source.splits}",),
            "Download https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip and unpack "
            f"{source.splits} into FOIR_DATA/{folder}.",
        ),
        Download((f"{folder}/{source.images or 'val2014'}/*.jpg",), images),
        entities,
        Download((boxes,), f"{command}, or another detector's boxes as docs/reproduce.md says.", "detected boxes"),
    )


_ENTITIES = (
    "Clone https://github.com/BryanPlummer/flickr30k_entities into FOIR_DATA/flickr30k and unpack annotations.zip in "
    "its folder."
)
_FLICKR = _downloads(
    FLICKR,
    "Ask for the images of Flickr30K by the form on https://shannon.cs.illinois.edu/DenotationGraph/ and unpack them "
    "into FOIR_DATA/flickr30k/flickr30k-images.",
    Download(("flickr30k/flickr30k_entities/Annotations/*.xml",), _ENTITIES),
)
_MENTIONED = Download(("flickr30k/flickr30k_entities/Sentences/*.txt",), _ENTITIES, "mentioned boxes")
_COCO = _downloads(
    COCO,
    "Download val2014.zip (6 GB) from https://cocodataset.org/#download and unpack it into FOIR_DATA/coco.",
    Download(
        ("coco/coco_entities_release.json",),
        "Download coco_entities_release.json by the link on https://github.com/aimagelab/show-control-and-tell into "
        "FOIR_DATA/coco.",
    ),
)
_FILES = {FLICKR.folder: (*_FLICKR, _MENTIONED), COCO.folder: _COCO}
SPLITS = {  # test images, and those of the validation split, five captions each
    "flickr30k": (FLICKR, "test"),
    "flickr30k-val": (FLICKR, "val"),
    "coco-5k": (COCO, "test"),
    "coco-5k-val": (COCO, "val"),
}
_SIZES = {"flickr30k": 1000, "flickr30k-val": 1014, "coco-5k": 5000, "coco-5k-val": 5000, **FINE_IMAGES}
for _name, (_source, _split) in SPLITS.items():
    register(_name, CaptionedDataset, *_FILES[_source.folder], sizes={"images": _SIZES[_name]})(
        partial(_load, _name, _source, _split)
    )
for _name, _source in (("flickr-fg", FLICKR), ("coco-fg", COCO)):
    _finer = Download(
        (f"{_source.folder}/{_source.finer}*.json",),
        f"Copy {_source.finer}_ann.json from https://github.com/cwj1412/MSCOCO-Flikcr30K_FG into "
        f"FOIR_DATA/{_source.folder}.",
    )
    register(_name, CaptionedDataset, *_FILES[_source.folder], _finer, sizes={"images": _SIZES[_name]})(
        partial(_load, _name, _source, finer=True)
    )
