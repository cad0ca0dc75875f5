"""Recall between texts and images whose queries are perturbed towards objects, overall and by the objects' size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foir.image_text import ImageTextModel
from foir.perturbation.query_perturbation import MODES

from ..datasets.base import Boxes, CaptionedDataset
from ..datasets.checks import OUTSIDE, is_outside
from ..metrics.recall import harmonic_mean, size_bins
from ..metrics.retrieval import Mean, image_mean
from ..report import published
from ..report.results import Cell, CellBuilder
from .query_prompts import write_oddities
from .specs import ImageTextSpec, Row, RunContext
from .text_ranking import Sizes, rank_rows
from .text_retrieval import text_vectors

METHODS = ("plain", "qpert", "oes")
SMALL = "0-10%"
# The paper's names of its metrics; where a table has R@1 its numbers are those of mR@1 (specification, section 5).
PRINTED = {"mR@1": "R@1 as printed (magnitudes fit mR@1, see qpert.md)"}


@dataclass(frozen=True)
class QueryPerturbation(ImageTextSpec):
    """Recall between texts and images whose queries are perturbed towards objects (Q-Pert).

    Attributes:
        rows: `method` is "plain", "qpert", "oes" (object embeddings), or another paper's, whose numbers are copied;
            options: "boxes" ("annotated", "mentioned" or "detected"), "theta", "strength", "weight", "mode". Theta and
            strength default to the model's. Cells of the mode "legacy" say that it depends on the arbitrary signs of
            eigenvectors, and have no published value beside them.
        ks: Depths of recall.
        tables: Their numbers in the paper.
        best_of_grid: Report the row with the best mR@1 from texts to images: the rows are a grid of hyper-parameters.
    """

    data_kind = CaptionedDataset
    rows: tuple[Row, ...]
    ks: tuple[int, ...] = (1, 5, 10)
    tables: tuple[str, ...] = ()
    best_of_grid: bool = False

    def measure(self, data: CaptionedDataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """R@k in both directions for each row, overall and by the size of the largest object; `limit` query images.

        Raises:
            Unavailable: The model encodes no texts, or has no queries that can be perturbed.
        """
        started = time.perf_counter()
        texts, owner = text_vectors(model, data), data.text_images
        rows = [row for row in self.rows if _can_run(row, data)]
        ranks, sizes = rank_rows(data, model, rows, texts)
        boxes, oddities = _boxes_on_images(data, sizes)
        write_oddities(data.name, oddities)
        bins = size_bins(boxes[data.size_boxes], sizes) if data.size_boxes in boxes else None
        count = context.count(len(data.images))
        selected = owner < count
        builder = self.cells(data, model, started, oddities=oddities)
        cells: list[Cell] = []
        bases: dict[tuple[str, ...], Mean] = {}
        for row in self.rows:
            for direction in ("t2i", "i2t"):
                options = {**row.options, **_note(row), **_detector(row, data), "direction": direction}
                cell = builder.using(method=row.method, options=options)
                if row not in ranks:
                    cells += _missing(self, row, cell)
                    continue
                by_text, by_image = ranks[row]
                rank, images = by_image[:count], np.arange(count)
                if direction == "t2i":
                    rank, images = by_text[selected], owner[selected]
                for metric, group, mean, n in _means(self.ks, rank, images, bins):
                    base = bases.setdefault((direction, metric, *group.values()), mean)
                    reference = published_value(self, row, cell, metric, group)
                    baselines = {} if base is mean else {rows[0].method: base}
                    cells += cell.using(options={**cell.options, **group}, n=n).compared(
                        metric, mean, baselines, reference
                    )
        return cells + (_best_of_grid(cells) if self.best_of_grid else [])


def _boxes_on_images(data: CaptionedDataset, sizes: Sizes) -> tuple[dict[str, list[Boxes]], dict[str, int]]:
    """The boxes that have a part on their image, by source, and how many others there are."""
    usable = {
        source: [
            tuple(box for box in some if not is_outside(box, size)) for some, size in zip(boxes, sizes, strict=True)
        ]
        for source, boxes in data.boxes.items()
    }
    left_out = sum(len(some) for boxes in data.boxes.values() for some in boxes)
    left_out -= sum(len(some) for boxes in usable.values() for some in boxes)
    return usable, {OUTSIDE: left_out} if left_out else {}


def _can_run(row: Row, data: CaptionedDataset) -> bool:
    return row.method == "plain" or (row.method in METHODS and row.options["boxes"] in data.boxes)


def _note(row: Row) -> dict[str, str]:
    """What a reader of the row must know of its mode."""
    note = MODES[row.options.get("mode", "paper")].note
    return {"note": note} if note else {}


def _detector(row: Row, data: CaptionedDataset) -> dict[str, str]:
    """The detector beside the row's values: the paper's is CO-DINO."""
    return {"detector": data.detector} if row.options.get("boxes") == "detected" and data.detector else {}


def _means(
    ks: Sequence[int], rank: np.ndarray, images: np.ndarray, bins: np.ndarray | None
) -> Iterator[tuple[str, dict[str, Any], Mean, int]]:
    """Metric, the group of items that it covers, its mean, and the number of items."""
    for k in ks:
        yield f"R@{k}", {}, image_mean(rank < k, images), len(rank)
    if bins is None:
        return
    for k in ks:
        filled = len(np.unique(bins[np.unique(images)]))
        yield f"mR@{k}", {"bins": filled}, harmonic_mean(rank < k, images, bins), len(rank)
    for number in np.unique(bins[images]).tolist():
        inside = bins[images] == number
        group = {"bin": SMALL if number == 0 else f"{10 * number}-{10 * number + 10}%"}
        yield "R@1", group, image_mean(rank[inside] < 1, images[inside]), int(inside.sum())


def _best_of_grid(cells: Sequence[Cell]) -> list[Cell]:
    """The best of a grid again, as a metric of its own; none where no size is known."""
    grid = [c for c in cells if c.metric == "mR@1" and c.method == "qpert" and c.options["direction"] == "t2i"]
    best = max(grid, key=lambda cell: cell.value or 0.0, default=None)
    return [] if best is None else [replace(best, metric="mR@1, best of the grid")]


def _missing(experiment: QueryPerturbation, row: Row, cell: CellBuilder) -> Iterator[Cell]:
    """The cells of a row of another paper, or of one whose boxes the data set does not have."""
    status = "not_run" if row.method in METHODS else "published_only"
    for metric in (f"R@{k}" for k in experiment.ks):
        reference = published_value(experiment, row, cell, metric, {})
        if status == "not_run" or reference is not None:
            yield cell.missing(metric, reference, status)


def published_value(
    experiment: QueryPerturbation, row: Row, cell: CellBuilder, metric: str, group: Mapping[str, Any]
) -> float | None:
    """The paper's value of a row in the direction of `cell`; None where it has none, and for a mode with a note."""
    if row.published is None or _note(row) or group.get("bin", SMALL) != SMALL:
        return None
    name, variant = row.published
    direction = str(cell.options["direction"])
    metric = f"{metric} (area<10%)" if "bin" in group else metric
    if variant and direction != "t2i":
        return None
    names = (name, variant or direction.upper())
    values = (
        published.value("qpert", table, cell.dataset, cell.encoder, names, printed)
        for table in experiment.tables
        for printed in (metric, PRINTED.get(metric, metric))
    )
    return next((value for value in values if value is not None), None)


EXPERIMENTS = (
    QueryPerturbation(
        "mini-perturbing",
        "Q-Pert on mini: recall overall and on images whose objects are all small",
        ("playroom-captions", "coco-small-captions"),
        ("mini",),
        (
            Row("plain"),
            *(
                Row("qpert", {"boxes": "annotated", "weight": weight, "strength": strength, "theta": 0.95})
                for weight in ("1", "1-S")
                for strength in (0.2, 0.6, 1.0, 2.0)
            ),
            *(
                Row("qpert", {"boxes": "annotated", "mode": mode, "strength": 1.0, "theta": 0.95})
                for mode in ("orthogonal", "legacy")
            ),
            Row("oes", {"boxes": "annotated"}),
        ),
    ),
)
