"""Runs an experiment: one prefix a picture, shared by all its prompts and all rows of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.datasets import Dataset, Query
from eval.experiments.gallery import facts, gallery
from eval.experiments.pointing import Pointing, query_prompts
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import PromptedRetrieval, Row
from eval.metrics.ranking import rank
from eval.metrics.retrieval import Mean, average_precision, category_mean, image_mean, precision
from eval.report import published
from eval.report.results import Cell
from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate
from foir.index import Space
from foir.methods import intervene
from foir.ranking.shortlist import Shortlist, is_worthwhile

BATCH = 16
MANY = 10  # objects on a picture that are counted as so many or more
CHUNK = 128  # query pictures measured at a time, and what a killed run can lose
# Of one number for each query: the field's name, which number it is, and over what it is averaged.
METRICS: Mapping[str, tuple[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Mean]]] = {
    "MP": ("precision", category_mean),
    "MAP": ("average precision", category_mean),
    "P": ("precision", lambda values, images, _: image_mean(values, images)),
}
_Numbered = Sequence[tuple[int, Query]]


def run(
    experiment: PromptedRetrieval, dataset: Dataset, encoder: Encoder, store: ResultsCache, *, limit: int | None = None
) -> list[Cell]:
    """Measure every row of an experiment.

    Args:
        experiment: The table.
        dataset: Its pictures and pointed queries.
        encoder: The encoder.
        store: Where finished parts are kept and taken from.
        limit: Only the first so many query pictures, on the whole gallery.
    """
    asked = sorted(
        ((i, q) for i, q in enumerate(dataset.queries) if limit is None or q.image < limit),
        key=lambda n: n[1].image,
    )
    rows = [row for row in experiment.rows if _can(row, encoder, [q for _, q in asked])]
    kept = gallery(encoder, dataset, store)
    gated = any(row.mode == "query-db" for row in rows)
    shortlist = Shortlist(encoder, kept) if gated and is_worthwhile(encoder, kept) else None
    values: dict[Row, list[dict[str, np.ndarray]]] = {row: [] for row in rows}
    known = [*facts(encoder, dataset), experiment.k]
    for chunk in tqdm(list(_chunks(asked)), unit="chunk", desc="queries"):
        for row, made in _measured(experiment, dataset, encoder, store, known, kept, shortlist, rows, chunk).items():
            values[row].append(made)
    pictures, kinds = (np.array([getattr(q, name) for _, q in asked]) for name in ("picture", "category"))
    parts = _parts(experiment.by, dataset, pictures)
    cells: list[Cell] = []
    bases: dict[tuple[str, str], Mean] = {}
    for row in experiment.rows:
        for name, (part, inside) in product(experiment.metrics, parts.items()):
            shown = {**row.options, **row.shown} | ({"objects": part} if part else {})
            metric = f"{name}@{experiment.k}"
            about: dict[str, Any] = {
                "experiment": experiment.name,
                "dataset": dataset.name,
                "encoder": encoder.name,
                "method": row.method,
                "options": shown,
                "revisions": {"encoder": encoder.revision, "data": dataset.digest},
                "n": int(inside.sum()),
            }
            theirs = row.published and published.value(
                "phs", experiment.table, dataset.name, encoder.name, row.published, metric
            )
            if row not in rows:
                cells.append(Cell(**about, metric=metric, value=None, published=theirs, status="not_run"))
                continue
            what, average = METRICS[name]
            each = np.concatenate([made[what] for made in values[row]])
            mean = average(each[inside], pictures[inside], kinds[inside])
            about["seconds"] = round(float(sum(made["seconds"] for made in values[row])), 3)
            cells.append(_cell(about, metric, mean, published=theirs))
            if row != experiment.rows[0] and experiment.rows[0] in rows:
                difference = mean.minus(bases[metric, part])
                cells.append(_cell(about, f"{metric} minus {experiment.rows[0].method}", difference))
            bases.setdefault((metric, part), mean)
    return cells


def ceiling(dataset: Dataset, k: int) -> float:
    """The MP@k in percent of a perfect ranking: rare categories cannot fill k places."""
    have = dataset.labels.sum(0) - dataset.leave_one_out
    kinds = np.array([q.category for q in dataset.queries])
    pictures = np.array([q.image for q in dataset.queries])
    return 100 * category_mean(np.minimum(have[kinds], k) / k, pictures, kinds).value


def _parts(by: str, dataset: Dataset, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Which queries count, bool [n]: all of them under "", and for each number of objects on their picture."""
    parts = {"": np.ones(len(pictures), bool)}
    if by:
        on = np.bincount([q.image for q in dataset.queries], minlength=len(dataset.query_images))[pictures]
        for count in range(1, MANY + 1):
            most = by == "at-least" or count == MANY
            inside = on >= count if most else on == count
            if inside.any():
                parts[f"{count}+" if most else str(count)] = inside
    return parts


def _can(row: Row, encoder: Encoder, queries: Sequence[Query]) -> bool:
    """Whether the encoder has as many heads as the row keeps, and every object the mask that the row points with."""
    return row.options.get("h_on", 1) <= encoder.heads and (row.prompt == "box" or all(q.mask for q in queries))


def _cell(about: Mapping[str, Any], metric: str, mean: Mean, **more: Any) -> Cell:
    return Cell(**about, metric=metric, value=100 * mean.value, low=100 * mean.low, high=100 * mean.high, **more)


def _chunks(asked: _Numbered) -> Iterator[_Numbered]:
    """The queries of `CHUNK` pictures at a time; those of one picture stay together."""
    by_picture = [list(some) for _, some in groupby(asked, lambda numbered: numbered[1].image)]
    for start in range(0, len(by_picture), CHUNK):
        yield [numbered for some in by_picture[start : start + CHUNK] for numbered in some]


def _measured(
    experiment: PromptedRetrieval,
    dataset: Dataset,
    encoder: Encoder,
    store: ResultsCache,
    known: Sequence[Any],
    kept: Space,
    shortlist: Shortlist | None,
    rows: Sequence[Row],
    chunk: _Numbered,
) -> dict[Row, dict[str, np.ndarray]]:
    """For each row the chunk's numbers, one a query; rows that the store lacks share one look at the pictures."""
    known = [*known, chunk[0][0], chunk[-1][0], len(chunk)]
    looked: dict[Row, Looked] = {}

    def make(row: Row) -> dict[str, np.ndarray]:
        if not looked:
            looked.update(look(dataset, encoder, rows, chunk))
        started = time.perf_counter()
        found = looked[row]
        depth = experiment.k + dataset.leave_one_out
        results = rank(encoder, kept, row.mode, found.gates, np.stack(found.vectors), depth, shortlist)
        pictures, kinds = (
            np.array([getattr(chunk[i][1], name) for i in found.owner]) for name in ("picture", "category")
        )
        if dataset.leave_one_out:
            results = _without(results, pictures)
        relevance = dataset.labels[results, kinds[:, None]]
        numbers = {"precision": precision(relevance), "average precision": average_precision(relevance)}
        counts = np.bincount(found.owner, minlength=len(chunk))
        means = {name: np.bincount(found.owner, each, len(chunk)) / counts for name, each in numbers.items()}
        return {**means, "seconds": np.array(found.seconds + time.perf_counter() - started)}

    return {row: store.get([*known, row.method, row.options, row.shown], partial(make, row)) for row in rows}


class Looked:
    """A row's query features on a chunk: vectors and gates, one a prompt, and whose query each prompt is."""

    def __init__(self) -> None:
        self.vectors: list[np.ndarray] = []
        self.gates: list[HeadGate | None] = []
        self.owner: list[int] = []
        self.seconds = 0.0


def look(dataset: Dataset, encoder: Encoder, rows: Sequence[Row], chunk: _Numbered) -> dict[Row, Looked]:
    """Query features of every row on some queries, those of one picture from one prefix."""
    looked = {row: Looked() for row in rows}
    places = {number: i for i, (number, _) in enumerate(chunk)}
    for picture, some in groupby(chunk, lambda numbered: numbered[1].image):
        here = list(some)
        image = dataset.query_images[picture]()
        prefix = encoder.prefix(encoder.pixels([image]))
        ways: dict[tuple[str, int], list[tuple[int, Pointing]]] = {}
        for row in rows:
            started = time.perf_counter()
            way = (row.prompt, row.noise)
            if way not in ways:
                ways[way] = [
                    (places[number], one)
                    for number, query in here
                    for one in query_prompts(query, number, image.size, encoder.grid, prompt=row.prompt, noise=row.noise)
                    or ()
                ]
            found = looked[row]
            for start in range(0, len(ways[way]), BATCH):
                part = ways[way][start : start + BATCH]
                steps = [intervene(row.method, prompt, mask, row.options) for _, (prompt, mask) in part]
                made = encoder.features(image, steps, prefix)
                found.vectors.extend(made.vectors.cpu().numpy())
                found.gates.extend(made.gates)
                found.owner.extend(place for place, _ in part)
            found.seconds += time.perf_counter() - started
    return looked


def _without(found: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Drop each query's own row from its results [n, k + 1]; the last result where it was not among them."""
    keep = found != own[:, None]
    keep[keep.all(1), -1] = False
    return found[keep].reshape(len(found), -1)
