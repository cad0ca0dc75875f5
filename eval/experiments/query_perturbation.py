"""Recall between words and pictures whose queries are pulled at objects, overall and by the objects' size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.datasets import CaptionedDataset
from eval.experiments.specs import QueryPerturbation, Row
from eval.experiments.text_retrieval import word_vectors
from eval.metrics.recall import harmonic_mean, size_bins
from eval.metrics.retrieval import Mean, image_mean
from eval.metrics.text_ranking import ranks
from eval.report import published
from eval.report.results import Cell
from foir.image_text import ImageTextModel

SMALL = "0-10%"
# The paper's names of what it prints; where a table says R@1 its numbers are those of mR@1 (specification, section 5).
PRINTED = {"mR@1": "R@1 as printed (magnitudes fit mR@1, see qpert.md)"}


def run(experiment: QueryPerturbation, data: CaptionedDataset, model: ImageTextModel, *, limit: int | None = None) -> list[Cell]:
    """R@k both ways for each row, overall and by the size of the largest object; `limit` query pictures.

    Raises:
        Unavailable: The model has no words, or nothing in it can be pulled at.
    """
    started = time.perf_counter()
    words = word_vectors(model, data.captions)
    owner = np.repeat(np.arange(len(data.images)), [len(said) for said in data.captions])
    rows = [row for row in experiment.rows if _can(row, data)]
    found, sizes = ranks(data, model, rows, words, owner)
    bins = size_bins(data.boxes[data.size_boxes], sizes) if data.size_boxes in data.boxes else None
    asked = len(data.images) if limit is None else min(limit, len(data.images))
    texts = owner < asked
    seconds = round(time.perf_counter() - started, 1)
    cells: list[Cell] = []
    bases: dict[tuple[str, ...], Mean] = {}
    for row in experiment.rows:
        ranked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if row in found:
            by_text, by_picture = found[row]
            ranked = {"t2i": (by_text[texts], owner[texts]), "i2t": (by_picture[:asked], np.arange(asked))}
        for direction in ("t2i", "i2t"):
            about: dict[str, Any] = {
                "experiment": experiment.name,
                "dataset": data.name,
                "encoder": model.name,
                "method": row.method,
                "seconds": seconds,
                "revisions": {"encoder": model.revision},
            }
            options = {**row.options, "direction": direction}
            if direction not in ranked:
                cells += _not_run(experiment, row, about, options)
                continue
            rank, images = ranked[direction]
            for metric, part, mean, n in _means(experiment.ks, rank, images, bins):
                shown = options | part
                published = _published(experiment, row, about, direction, metric, part)
                cells.append(_cell(about | {"options": shown, "n": n}, metric, mean, published))
                base = bases.setdefault((direction, metric, *part.values()), mean)
                if base is not mean:
                    name = f"{metric} minus {rows[0].method}"
                    cells.append(_cell(about | {"options": shown, "n": n}, name, mean.minus(base), None))
    return cells + (_chosen(cells) if experiment.chosen else [])


def _can(row: Row, data: CaptionedDataset) -> bool:
    return row.method == "plain" or (row.method in ("qpert", "oes") and row.options["boxes"] in data.boxes)


def _means(
    ks: Sequence[int], rank: np.ndarray, images: np.ndarray, bins: np.ndarray | None
) -> Iterator[tuple[str, dict[str, Any], Mean, int]]:
    """Metric, what part of the items it is of, its value, and how many items."""
    for k in ks:
        yield f"R@{k}", {}, image_mean(rank < k, images), len(rank)
    if bins is None:
        return
    for k in ks:
        filled = len(np.unique(bins[np.unique(images)]))
        yield f"mR@{k}", {"bins": filled}, harmonic_mean(rank < k, images, bins), len(rank)
    for number in np.unique(bins[images]).tolist():
        inside = bins[images] == number
        part = {"bin": SMALL if number == 0 else f"{10 * number}-{10 * number + 10}%"}
        yield "R@1", part, image_mean(rank[inside] < 1, images[inside]), int(inside.sum())


def _chosen(cells: Sequence[Cell]) -> list[Cell]:
    """The best of a grid once more, under a metric of its own; none where no size is known."""
    grid = [c for c in cells if c.metric == "mR@1" and c.method == "qpert" and c.options["direction"] == "t2i"]
    best = max(grid, key=lambda cell: cell.value or 0.0, default=None)
    return [] if best is None else [replace(best, metric="mR@1, best of the grid")]


def _not_run(experiment: QueryPerturbation, row: Row, about: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Cell]:
    """A row of another paper, or one whose boxes are not there."""
    for metric in (f"R@{k}" for k in experiment.ks):
        theirs = _published(experiment, row, about, str(options["direction"]), metric, {})
        status = "not_run" if row.method in ("plain", "qpert", "oes") else "published_only"
        if status == "not_run" or theirs is not None:
            yield Cell(**about, options=options, metric=metric, value=None, published=theirs, status=status)


def _published(
    experiment: QueryPerturbation, row: Row, about: Mapping[str, Any], direction: str, metric: str, part: Mapping[str, Any]
) -> float | None:
    if row.published is None or part.get("bin", SMALL) != SMALL:
        return None
    name, variant = row.published
    metric = f"{metric} (area<10%)" if "bin" in part else metric
    if variant and direction != "t2i":
        return None
    names = (name, variant or direction.upper())
    for table in experiment.tables:
        for written in (metric, PRINTED.get(metric, metric)):
            found = published.value("qpert", table, about["dataset"], about["encoder"], names, written)
            if found is not None:
                return found
    return None


def _cell(about: Mapping[str, Any], metric: str, mean: Mean, published: float | None) -> Cell:
    value, low, high = (100 * part for part in (mean.value, mean.low, mean.high))
    return Cell(**about, metric=metric, value=value, low=low, high=high, published=published)
