"""The papers' own numbers, from the tables in eval/published, for the data sets and encoders that they measured."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
DATASETS = {"coco": "COCO", "voc": "PASCAL VOC", "visual_genome": "Visual Genome"}
ENCODERS = {f"dinov2-{size}-reg": ("DINOv2", size) for size in ("small", "base", "large", "giant")} | {
    f"clip-{size}": ("CLIP", size) for size in ("base", "large")
}
_Key = tuple[str, str, str, str, str, str, str]


def value(table: str, dataset: str, encoder: str, names: tuple[str, str], metric: str) -> float | None:
    """The value that a table of the PHS paper gives, or None where it has none.

    Args:
        table: As the paper numbers it, "1" or "A4".
        dataset: Registry id.
        encoder: Registry name.
        names: The paper's names of method and variant.
        metric: "MP@100" or "MAP@100".
    """
    if dataset not in DATASETS or encoder not in ENCODERS:
        return None
    return _all().get((table, DATASETS[dataset], *ENCODERS[encoder], *names, metric))


@cache
def _all() -> dict[_Key, float]:
    found: dict[_Key, float] = {}
    for path in sorted(FOLDER.glob("phs_table*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = ("table", "dataset", "backbone", "size", "method", "variant", "metric")
                found[tuple(row[column] for column in key)] = float(row["value"])  # type: ignore[index]
    return found
