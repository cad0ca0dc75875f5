"""Runs an experiment: one prefix a picture, shared by all its prompts and all rows of the table."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from eval.cells import Cell
from eval.datasets import Dataset, Load, Query
from eval.metrics import Mean, category_mean, precision
from eval.tables import Experiment, Row
from foir.encoders.base import Encoder, Features
from foir.encoders.intervention import HeadGate
from foir.index import Space, exact, head_cache
from foir.methods import intervene
from foir.patches import rasterise

BATCH = 16


def run(experiment: Experiment, dataset: Dataset, encoder: Encoder, *, limit: int | None = None) -> list[Cell]:
    """Measure every row of an experiment.

    Args:
        experiment: The table.
        dataset: Its pictures and pointed queries.
        encoder: The encoder.
        limit: Only the first so many query pictures, on the whole gallery.
    """
    queries = [q for q in dataset.queries if limit is None or q.picture < limit]
    gallery = _gallery(encoder, dataset.gallery)
    vectors, gates, seconds = _query_features(encoder, dataset, queries, experiment.rows)
    pictures = np.array([q.picture for q in queries])
    kinds = np.array([q.category for q in queries])
    means: list[Mean] = []
    cells: list[Cell] = []
    for i, row in enumerate(experiment.rows):
        started = time.perf_counter()
        depth = experiment.k + dataset.leave_one_out
        if row.mode == "query-db":
            found = head_cache.search(encoder, gallery, gates[i], vectors[i], depth).rows
        else:
            found = exact.search(gallery.shards, vectors[i], depth).rows
        if dataset.leave_one_out:
            found = _without(found, pictures)
        relevance = dataset.labels[found, kinds[:, None]]
        mean = category_mean(precision(relevance), pictures, kinds)
        means.append(mean)
        spent = seconds[i] + time.perf_counter() - started
        shown = {**row.options, "prompt": "box"} | ({"mode": row.mode} if row.mode != "query" else {})

        def cell(metric: str, mean: Mean, row: Row = row, shown: dict = shown, spent: float = spent) -> Cell:
            return Cell(
                experiment.name, dataset.name, encoder.name, row.method, shown, metric,
                100 * mean.value, 100 * mean.low, 100 * mean.high, len(queries),
                seconds=round(spent, 3), revisions={"encoder": encoder.revision},
            )  # fmt: skip

        cells.append(cell(f"MP@{experiment.k}", mean))
        if i:
            base = experiment.rows[0].method
            cells.append(cell(f"MP@{experiment.k} minus {base}", mean.minus(means[0])))
    return cells


def ceiling(dataset: Dataset, k: int) -> float:
    """The MP@k in percent of a perfect ranking: rare categories cannot fill k places."""
    have = dataset.labels.sum(0) - dataset.leave_one_out
    kinds = np.array([q.category for q in dataset.queries])
    pictures = np.array([q.picture for q in dataset.queries])
    return 100 * category_mean(np.minimum(have[kinds], k) / k, pictures, kinds).value


def _gallery(encoder: Encoder, pictures: Sequence[Load]) -> Space:
    """The gallery's features and head cache in memory, in float32."""
    parts: list[Features] = []
    for start in tqdm(range(0, len(pictures), BATCH), unit="batch", desc="gallery"):
        batch = [load() for load in pictures[start : start + BATCH]]
        parts.append(encoder.finish(encoder.prefix(encoder.pixels(batch))))

    def shards(name: str) -> tuple[np.ndarray, ...]:
        return tuple(getattr(part, name).float().cpu().numpy() for part in parts)

    return Space(encoder.name, encoder.revision, np.empty(0), shards("vectors"), shards("z"), shards("residual"))


def _query_features(
    encoder: Encoder, dataset: Dataset, queries: Sequence[Query], rows: Sequence[Row]
) -> tuple[list[np.ndarray], list[list[HeadGate | None]], list[float]]:
    """Vectors [rows][n, dim], gates and seconds of each row, in the order of `queries`."""
    vectors: list[list[np.ndarray]] = [[np.empty(0)] * len(queries) for _ in rows]
    gates: list[list[HeadGate | None]] = [[None] * len(queries) for _ in rows]
    seconds = [0.0] * len(rows)
    of_picture: dict[int, list[int]] = defaultdict(list)
    for place, query in enumerate(queries):
        of_picture[query.picture].append(place)
    for picture, places in tqdm(of_picture.items(), unit="picture", desc="queries"):
        image = dataset.query_pictures[picture]()
        prefix = encoder.prefix(encoder.pixels([image]))
        fitted = [queries[place].prompt.fit(image.size) for place in places]
        masks = [rasterise(prompt, image.size, encoder.grid) for prompt in fitted]
        for i, row in enumerate(rows):
            started = time.perf_counter()
            steps = [intervene(row.method, p, m, row.options) for p, m in zip(fitted, masks, strict=True)]
            for chunk in _chunks(range(len(places))):
                made = encoder.features(image, [steps[j] for j in chunk], prefix)
                for j, vector, gate in zip(chunk, made.vectors.cpu().numpy(), made.gates, strict=True):
                    vectors[i][places[j]], gates[i][places[j]] = vector, gate
            seconds[i] += time.perf_counter() - started
    return [np.stack(row) for row in vectors], gates, seconds


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), BATCH):
        yield places[start : start + BATCH]


def _without(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Drop each query's own row from its results [n, k + 1]; the last result where it was not among them."""
    keep = found != own[:, None]
    keep[keep.all(1), -1] = False
    return found[keep].reshape(len(found), -1)
