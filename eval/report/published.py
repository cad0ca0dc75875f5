"""The papers' own numbers, from the tables in eval/published, for the data sets and encoders that they measured."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
DATASETS = {
    "coco": "COCO", "voc": "PASCAL VOC", "visual_genome": "Visual Genome", "flickr30k": "Flickr30K",
    "flickr-fg": "Flickr-FG", "coco-5k": "COCO-5K", "coco-fg": "COCO-FG", "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100", "stl10": "STL-10", "voxdet": "VoxDet", "voxdet-detected": "VoxDetW",
    "permir": "PerMiR", "permir-detected": "PerMiRW", "instre-xs": "INSTRE-XS", "instre-xxs": "INSTRE-XXS",
}  # fmt: skip
ENCODERS = {
    **{f"dinov2-{size}-reg": ("DINOv2", size) for size in ("small", "base", "large", "giant")},
    **{f"clip-{size}": ("CLIP", size) for size in ("base", "large")},
    "dinov2-base": ("DINOv2", "ViT-B/14"),  # the MaO paper calls it otherwise: BACKBONES
    "blip2": ("BLIP-2 (EVA ViT-g, coco)", ""),
    "coca": ("COCA", ""),
    "internvl-g": ("InternVL-G", ""),
    "clip-base-projected": ("CLIP ViT-B/16", ""),
    "siglip-base": ("SigLIP", ""),
}
BACKBONES = {"dinov2-base": ("DINOv2-B", "")}
NAMELESS = ("", "")  # a table of many models calls its rows by them
_Key = tuple[str, ...]


def value(paper: str, table: str, dataset: str, encoder: str, names: tuple[str, str], metric: str) -> float | None:
    """The value that a table of a paper gives, or None where it has none.

    Args:
        paper: "phs", "qpert", "itae" or "mao".
        table: As the paper numbers it, "1" or "A4".
        dataset: Registry id.
        encoder: Registry name.
        names: The paper's names of method and variant.
        metric: As the paper writes it.
    """
    if dataset not in DATASETS or encoder not in ENCODERS:
        return None
    called = (ENCODERS[encoder], BACKBONES.get(encoder, NAMELESS), NAMELESS)
    known = (_all().get((paper, table, DATASETS[dataset], *by, *names, metric)) for by in called)
    return next((found for found in known if found is not None), None)


@cache
def _all() -> dict[_Key, float]:
    found: dict[_Key, float] = {}
    for path in sorted(FOLDER.glob("*_table*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = ("table", "dataset", "backbone", "size", "method", "variant", "metric")
                found[path.name.partition("_")[0], *(row[column] for column in key)] = float(row["value"])
    return found
