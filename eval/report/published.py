"""The papers' numbers, from the tables in `published/`, for the data sets and encoders that they measured."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
DATASETS = {
    "coco": "COCO", "voc": "PASCAL VOC", "visual_genome": "Visual Genome", "flickr30k": "Flickr30K",
    "flickr-fg": "Flickr-FG", "coco-5k": "COCO-5K", "coco-fg": "COCO-FG", "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100", "stl10": "STL-10", "voxdet": "VoxDet", "voxdet-detected": "VoxDetW",
    "tiny-imagenet": "Tiny-ImageNet",
    "permir": "PerMiR", "permir-detected": "PerMiRW", "instre-xs": "INSTRE-XS", "instre-xxs": "INSTRE-XXS",
}  # fmt: skip
ENCODERS = {
    **{f"dinov2-{size}-reg": ("DINOv2", size) for size in ("small", "base", "large", "giant")},
    **{f"clip-{size}": ("CLIP", size) for size in ("base", "large")},
    "dinov2-base": ("DINOv2", "ViT-B/14"),
    "blip2": ("BLIP-2 (EVA ViT-g, coco)", ""),
    "coca": ("COCA", ""),
    "internvl-g": ("InternVL-G", ""),
    "clip-base-projected": ("CLIP ViT-B/16", ""),
    "siglip-base": ("SigLIP", ""),
}
# Other names of an encoder: in the MaO paper; where a leaderboard states no size, the one of its other rows is taken.
ALIASES = {"dinov2-base": (("DINOv2-B", ""), ("DINOv2", "unstated"))}
ANY_MODEL = ("", "")  # a table of many models names them in its rows
_Key = tuple[str, ...]


def value(paper: str, table: str, dataset: str, encoder: str, names: tuple[str, str], metric: str) -> float | None:
    """The value in a table of a paper; None where it has none.

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
    models = (ENCODERS[encoder], *ALIASES.get(encoder, ()), ANY_MODEL)
    values = (all_values().get((paper, table, DATASETS[dataset], *model, *names, metric)) for model in models)
    return next((number for number in values if number is not None), None)


def fact(dataset: str, name: str, names: tuple[str, str] = ("", "")) -> float | None:
    """A number that a paper states of a data set itself, as "n_query_images"; None where it states none.

    Args:
        dataset: Registry id.
        name: As metrics are named.
        names: Method and variant, where the number is of one.
    """
    if dataset not in DATASETS:
        return None
    printed = (DATASETS[dataset], f"{DATASETS[dataset]}-SoIR")
    facts = (key for key in all_values() if key[2] in printed and key[3:] == ("", "", *names, name))
    return all_values().get(next(facts, ()))


@cache
def all_values() -> dict[_Key, float]:
    """Every published value, by paper, table, data set, backbone, size, method, variant and metric."""
    columns = ("table", "dataset", "backbone", "size", "method", "variant", "metric")
    values: dict[_Key, float] = {}
    for path in sorted(FOLDER.glob("*_table*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values[path.name.partition("_")[0], *(row[column] for column in columns)] = float(row["value"])
    return values
