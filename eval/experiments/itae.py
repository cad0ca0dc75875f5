"""Zero-shot clustering: k-means on the features, with and without attention sinks, against known classes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.datasets import Classed
from eval.experiments.specs import Clustering, Row
from eval.report import published
from eval.report.results import Cell
from foir import clustering
from foir.encoders.base import Encoder
from foir.methods import intervene, itae
from foir.patches import PatchMask
from foir.prompts import Prompt

BATCH = 16
SAMPLE = 2000  # pictures on which it is decided whether there are artifacts, and what tells them
METRICS = ("ACC", "NMI", "ARI")


def run(experiment: Clustering, data: Classed, encoder: Encoder, *, limit: int | None = None) -> list[Cell]:
    """ACC, NMI and ARI of each row, means over the seeds, of unit features and of features as they leave the model.

    Where a sample shows no artifacts the row of ITAE is the plain one, and says so.
    """
    started = time.perf_counter()
    asked = len(data.pictures) if limit is None else min(limit, len(data.pictures))
    found = _diagnosed(data, encoder, min(asked, SAMPLE))
    told: dict[str, Any] = {"artifacts": "none"}
    if found is not None:
        told = {"component": found.component, "side": found.side, "artifacts": f"{100 * found.share:.2f} %"}
    features = _features(data, encoder, experiment.rows, found, asked)
    classes = data.classes[:asked]
    seconds = round(time.perf_counter() - started, 1)
    cells: list[Cell] = []
    bases: dict[tuple[str, bool], list[float]] = {}
    for row in experiment.rows:
        for unit in (True, False):
            vectors = features[row]
            if unit:
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            runs = [
                clustering.clustering_scores(clustering.kmeans(vectors, len(data.names), seed=seed), classes)
                for seed in range(experiment.seeds)
            ]
            about: dict[str, Any] = {
                "experiment": experiment.name,
                "dataset": data.name,
                "encoder": encoder.name,
                "method": row.method,
                "options": {"features": "unit" if unit else "raw", **(told if row.method == "itae" else {})},
                "n": asked,
                "seconds": seconds,
                "revisions": {"encoder": encoder.revision},
            }
            for metric in METRICS:
                values = [100 * run[metric] for run in runs]
                theirs = row.published and published.value(
                    "itae", "leaderboard", data.name, encoder.name, row.published, metric
                )
                reference = None if theirs is None else 100 * theirs
                cells.append(_cell(about, metric, values, reference))
                base = bases.setdefault((metric, unit), values)
                if base is not values:
                    apart = [value - plain for value, plain in zip(values, base, strict=True)]
                    cells.append(_cell(about, f"{metric} minus {experiment.rows[0].method}", apart, None))
    return cells


def _cell(about: dict[str, Any], metric: str, values: Sequence[float], reference: float | None) -> Cell:
    """A mean over seeds; the interval is that of the seeds, from the least to the largest."""
    return Cell(
        **about, metric=metric, value=float(np.mean(values)), low=min(values), high=max(values), published=reference
    )


def _diagnosed(data: Classed, encoder: Encoder, count: int) -> itae.Diagnosis | None:
    """What a sample of the pictures, evenly spaced, says about artifacts."""
    places = np.unique(np.linspace(0, len(data.pictures) - 1, count).astype(int))

    def blocks() -> Any:
        for start in range(0, len(places), BATCH):
            images = [data.pictures[place]() for place in places[start : start + BATCH]]
            block = encoder.prefix(encoder.pixels(images)).block
            yield from (block.at(i) for i in range(len(images)))

    return itae.diagnose(blocks())


def _features(
    data: Classed, encoder: Encoder, rows: Sequence[Row], found: itae.Diagnosis | None, count: int
) -> dict[Row, np.ndarray]:
    """Features as they leave the model, float32 [count, dim]."""
    made: dict[Row, list[np.ndarray]] = {row: [] for row in rows}
    whole, mask = Prompt.box(0, 0, 1, 1), PatchMask.everything((1, 1), encoder.grid)
    for start in tqdm(range(0, count, BATCH), desc="pictures"):
        images = [load() for load in data.pictures[start : min(start + BATCH, count)]]
        prefix = encoder.prefix(encoder.pixels(images))
        for row, parts in made.items():
            method = "cbir" if row.method == "itae" and found is None else row.method
            options = {"component": found.component, "side": found.side} if method == "itae" and found else {}
            features = encoder.finish(prefix, [intervene(method, whole, mask, options)])
            hidden = encoder.layers[-1].tail(features.z, features.residual)
            parts.append(encoder.project(encoder.norm(hidden)).detach().float().cpu().numpy())
    return {row: np.concatenate(parts) for row, parts in made.items()}
