"""Instances found on scenes that one vector stands for, or several of which the best counts.

A query is the plain feature of a picture of the instance alone (GeM's for GeM). mAP is taken over the whole gallery:
the average precision of a query is the mean of the precisions at each of its right scenes, and so divides by how many
right scenes there are (MaO spec, section 6). On a curve, right scenes off the point are neither right nor wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.datasets import InstanceDataset, InstanceQuery
from eval.experiments import representations
from eval.experiments.representations import REPRESENTATIONS, Pool, gem
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import InstanceRetrieval, Row
from eval.metrics.retrieval import Mean, image_mean
from eval.report import published
from eval.report.results import Cell
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.small_objects.crops import DetectedObject
from foir.small_objects.detect import Detector
from foir.small_objects.embed import embed_images

CHUNK = 16  # scenes at a time, and what a killed run can lose
ABOUT = ("boxes", "trained")  # options that are no way's own
_Found = tuple[np.ndarray, np.ndarray]  # vectors [n, dim], and the scene of each


def run(
    experiment: InstanceRetrieval,
    data: InstanceDataset,
    encoder: Encoder,
    detector: Callable[[], Detector],
    store: ResultsCache,
    *,
    trained: bool = False,
    limit: int | None = None,
) -> list[Cell]:
    """The mAP of each row, and its curves; `limit` queries. Intervals are over instances.

    Rows of a fine-tuned encoder are measured where it is one (`trained`), and then the others are not. Nor are those of
    detected boxes where the detector cannot be loaded.
    """
    queries = data.queries[:limit]
    rows = [row for row in experiment.rows if row.method in REPRESENTATIONS and bool(row.options.get("trained")) == trained]
    found = None
    if any(row.options.get("boxes") == "detected" for row in rows):
        try:
            found = detector()
        except Unavailable as error:
            tqdm.write(f"{error} Rows of detected boxes are not run.")
            rows = [row for row in rows if row.options.get("boxes") != "detected"]
    started = time.perf_counter()
    scenes = _scenes(data, encoder, found, rows, store)
    seconds = round(time.perf_counter() - started, 1)
    asked = _asked(encoder, queries, {_pool(row) for row in rows})
    right = np.array([[query.instance in scene.instances for scene in data.scenes] for query in queries])
    instances = np.unique([query.instance for query in queries], return_inverse=True)[1]
    cells: list[Cell] = []
    bases: dict[tuple[str, str], dict[str, Mean]] = {}
    for row in experiment.rows:
        about: dict[str, Any] = {
            "experiment": experiment.name,
            "dataset": data.name,
            "encoder": encoder.name,
            "method": row.method,
            "seconds": seconds,
            "revisions": {"encoder": encoder.revision},
        }
        published = _published(experiment, row, about)
        if row not in scenes:
            status = "not_run" if row.method in REPRESENTATIONS else "published_only"
            if status == "published_only" and published is None:
                continue
            cells.append(
                Cell(**about, options=row.options, metric="mAP", value=None, published=published, status=status)
            )
            continue
        vectors, owner = scenes[row]
        scores = _best(asked[_pool(row)] @ vectors.T, owner, len(data.scenes))
        for part, inside in _parts(data).items():
            counted = right & inside
            some = counted.any(1)
            if not some.any():
                continue
            values = _average_precisions(scores[some], counted[some], (right & ~inside)[some])
            mean = image_mean(values, instances[some])
            here = about | {"options": {**row.options, **dict([part] if part[0] else [])}, "n": int(some.sum())}
            cells.append(_cell(here, "mAP", mean, published if not part[0] else None))
            compared = bases.setdefault(part, {})
            cells += [_cell(here, f"mAP minus {name}", mean.minus(base)) for name, base in compared.items()]
            if row.method in experiment.compared and row.method not in compared:
                compared[row.method] = mean
    return cells


def _cell(about: dict[str, Any], metric: str, mean: Mean, published: float | None = None) -> Cell:
    value, low, high = (100 * part for part in (mean.value, mean.low, mean.high))
    return Cell(**about, metric=metric, value=value, low=low, high=high, published=published)


def _scenes(
    data: InstanceDataset, encoder: Encoder, detector: Detector | None, rows: Sequence[Row], store: ResultsCache
) -> dict[Row, _Found]:
    """The vectors that stand for the scenes, by row; rows share what is read and detected."""
    facts = [data.name, data.digest, encoder.name, encoder.revision, str(encoder.dtype)]
    parts: dict[Row, list[_Found]] = {row: [] for row in rows}
    for start in tqdm(range(0, len(data.scenes), CHUNK), unit="chunk", desc="scenes"):
        chunk = _Chunk(data, start, detector)
        for row in rows:
            boxes = row.options.get("boxes", "")
            options = {name: value for name, value in row.options.items() if name not in ABOUT}
            finder = detector.name if detector is not None and boxes == "detected" else ""
            known = [*facts, start, row.method, representations.facts(row.method, options), boxes, finder]
            made = store.get(known, partial(chunk.vectors, encoder, row.method, boxes, options))
            owner = np.repeat(np.arange(start, start + len(made["counts"])), made["counts"])
            parts[row].append((made["vectors"], owner))
    return {row: (np.concatenate([v for v, _ in found]), np.concatenate([o for _, o in found]))
            for row, found in parts.items()}  # fmt: skip


class _Chunk:
    """Some scenes, read and searched for objects once, if at all."""

    def __init__(self, data: InstanceDataset, start: int, detector: Detector | None) -> None:
        self.scenes, self.detector = data.scenes[start : start + CHUNK], detector
        self._images: list[Image.Image] = []
        self._things: dict[str, list[Sequence[DetectedObject]]] = {}

    def vectors(self, encoder: Encoder, method: str, boxes: str, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if not self._images:
            self._images = [scene.load() for scene in self.scenes]
        made = REPRESENTATIONS[method](encoder, list(zip(self._images, self._seen(boxes), strict=True)), options)
        counts = np.array([len(some) for some in made])
        return {"vectors": np.concatenate([some.float().cpu().numpy() for some in made]), "counts": counts}

    def _seen(self, boxes: str) -> list[Sequence[DetectedObject]]:
        if boxes not in self._things:
            if boxes == "annotated":
                self._things[boxes] = [scene.objects() for scene in self.scenes]
            elif boxes == "detected" and self.detector is not None:
                self._things[boxes] = [self.detector(image) for image in self._images]
            else:
                self._things[boxes] = [()] * len(self._images)
        return self._things[boxes]


def _pool(row: Row) -> Pool:
    """How a query is pooled to be compared with a row's scenes."""
    return gem if row.method == "gem" else embed_images


def _asked(encoder: Encoder, queries: Sequence[InstanceQuery], pools: Collection[Pool]) -> dict[Pool, np.ndarray]:
    parts: dict[Pool, list[np.ndarray]] = {pool: [] for pool in pools}
    for start in range(0, len(queries), CHUNK):
        images = [query.load() for query in queries[start : start + CHUNK]]
        for pool, made in parts.items():
            made.append(pool(encoder, images).float().cpu().numpy())
    return {pool: np.concatenate(made) for pool, made in parts.items()}


def _best(scores: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The best score of each scene's vectors, [queries, scenes]."""
    best = np.full((len(scores), count), -np.inf, np.float32)
    for place, column in zip(owner, scores.T, strict=True):
        np.maximum(best[:, place], column, out=best[:, place])
    return best


def _average_precisions(scores: np.ndarray, right: np.ndarray, neither: np.ndarray) -> np.ndarray:
    """Of each query, [n]; scenes of equal score keep their order in the gallery."""
    values = []
    for score, wanted, left_out in zip(scores, right, neither, strict=True):
        order = np.argsort(-score, kind="stable")
        ranked = wanted[order[~left_out[order]]]
        places = np.flatnonzero(ranked) + 1
        values.append(float((np.arange(1, len(places) + 1) / places).mean()))
    return np.array(values)


def _parts(data: InstanceDataset) -> dict[tuple[str, str], np.ndarray]:
    """Which scenes count, bool [scenes]: all of them, and those of each point of a curve."""
    parts = {("", ""): np.ones(len(data.scenes), bool)}
    for part in dict.fromkeys(point for scene in data.scenes for point in scene.groups.items()):
        parts[part] = np.array([part in scene.groups.items() for scene in data.scenes])
    return parts


def _published(experiment: InstanceRetrieval, row: Row, about: dict[str, Any]) -> float | None:
    if row.published is None:
        return None
    dataset = about["dataset"] + ("-detected" if row.options.get("boxes") == "detected" else "")
    values = (
        published.value("mao", table, dataset, about["encoder"], row.published, "mAP") for table in experiment.tables
    )
    return next((value for value in values if value is not None), None)
