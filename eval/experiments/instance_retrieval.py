"""Instance retrieval on scenes of many objects, each represented by one vector or by several of which the best counts.

The query is the plain feature of an image of the instance alone (GeM's for GeM). mAP covers the whole gallery: the
average precision of a query is the mean of the precisions at each of its relevant scenes, divided by their number (MaO
spec, section 6). For one group of scenes, relevant scenes of other groups are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.small_objects import detect, finetune
from foir.small_objects.crops import DetectedObject
from foir.small_objects.detect import Detector
from foir.small_objects.embed import embed_images
from foir.terminal import write

from ..datasets.base import InstanceDataset, InstanceQuery, Scene
from ..metrics.retrieval import Mean, image_mean
from ..report import published
from ..report.results import Cell
from .representations import REPRESENTATIONS, Pool, cache_key, gem
from .results_cache import ResultsCache
from .specs import ExperimentSpec, Row, RunContext

BOXES = ("annotated", "detected")
CHUNK = 16  # scenes; a killed run loses at most one chunk
ROW_OPTIONS = ("boxes", "trained")  # options that representations do not know
_Vectors = tuple[np.ndarray, np.ndarray]  # vectors [n, dim], and the scene of each


@dataclass(frozen=True)
class InstanceRetrieval(ExperimentSpec):
    """Instance retrieval on scenes of many objects.

    Attributes:
        rows: `method` is one of `representations.REPRESENTATIONS`, or another paper's, whose numbers are copied;
            options: "boxes" ("annotated" or "detected"), "trained" where the encoder was fine-tuned first.
        tables: Their names in the paper or its repository.
        compared: Methods that the rows after them are compared with.
    """

    data_kind = InstanceDataset
    rows: tuple[Row, ...]
    tables: tuple[str, ...] = ()
    compared: tuple[str, ...] = ("cls", "mean")

    def load_model(self, name: str, context: RunContext) -> Encoder:
        """Load the encoder, with its adapter if there is one."""
        encoder: Encoder = super().load_model(name, context)
        return encoder if context.adapter is None else finetune.load_adapter(encoder, context.adapter)

    def load_detector(self, encoder: Encoder, context: RunContext) -> Detector:
        """Load the object detector, on the encoder without an adapter.

        Raises:
            Unavailable: The encoder has no detector.
        """
        return detect.load(encoder if context.adapter is None else super().load_model(encoder.name, context))

    def measure(self, data: InstanceDataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """The mAP of each row, overall and by group; `limit` queries. Intervals are over instances.

        With an adapter only the rows of a fine-tuned encoder are measured, otherwise only the others. Rows of detected
        boxes are not measured where the detector cannot be loaded.
        """
        queries = data.queries[: context.limit]
        detector, rows = self._runnable(encoder, context)
        started = time.perf_counter()
        scenes = _scene_vectors(data, encoder, detector, rows, context.cache)
        builder = self.cells(data, encoder, started)
        vectors = _query_vectors(encoder, queries, {_pool(row) for row in rows})
        relevant = np.array([[query.instance in scene.instances for scene in data.scenes] for query in queries])
        instances = np.unique([query.instance for query in queries], return_inverse=True)[1]
        cells: list[Cell] = []
        bases: dict[tuple[str, str], dict[str, Mean]] = {}
        for row in self.rows:
            cell = builder.using(method=row.method, options=row.options)
            reference = published_value(self, row, data.name, encoder.name)
            if row not in scenes:
                if row.method in REPRESENTATIONS or reference is not None:
                    status = "not_run" if row.method in REPRESENTATIONS else "published_only"
                    cells.append(cell.missing("mAP", reference, status))
                continue
            scene_vectors, owner = scenes[row]
            scores = _best_scores(vectors[_pool(row)] @ scene_vectors.T, owner, len(data.scenes))
            for (name, group), inside in _groups(data).items():
                counted = relevant & inside
                used = counted.any(1)
                if not used.any():
                    continue
                values = _average_precisions(scores[used], counted[used], (relevant & ~inside)[used])
                mean = image_mean(values, instances[used])
                options = {**row.options, **({name: group} if name else {})}
                compared = bases.setdefault((name, group), {})
                group_cell = cell.using(options=options, n=int(used.sum()))
                cells += group_cell.compared("mAP", mean, compared, None if name else reference)
                if row.method in self.compared:
                    compared.setdefault(row.method, mean)
        return cells

    def _runnable(self, encoder: Encoder, context: RunContext) -> tuple[Detector | None, list[Row]]:
        """The detector if a row needs it, and the rows that can be measured."""
        trained = context.adapter is not None
        rows = [
            row for row in self.rows if row.method in REPRESENTATIONS and row.options.get("trained", False) == trained
        ]
        if not any(row.options.get("boxes") == "detected" for row in rows):
            return None, rows
        try:
            return self.load_detector(encoder, context), rows
        except Unavailable as error:
            write(f"{error} Rows of detected boxes are not run.")
            return None, [row for row in rows if row.options.get("boxes") != "detected"]


def _scene_vectors(
    data: InstanceDataset, encoder: Encoder, detector: Detector | None, rows: Sequence[Row], cache: ResultsCache
) -> dict[Row, _Vectors]:
    """The vectors that represent the scenes, by row; rows share loaded images and detected objects."""
    key = [data.name, data.digest, encoder.name, encoder.revision, str(encoder.dtype)]
    chunks: dict[Row, list[_Vectors]] = {row: [] for row in rows}
    for start in tqdm(range(0, len(data.scenes), CHUNK), unit="chunk", desc="scenes"):
        chunk = _Chunk(data.scenes[start : start + CHUNK], detector)
        for row in rows:
            boxes = row.options.get("boxes", "")
            options = {name: value for name, value in row.options.items() if name not in ROW_OPTIONS}
            detector_name = detector.name if detector is not None and boxes == "detected" else ""
            row_key = [*key, start, row.method, cache_key(row.method, options), boxes, detector_name]
            arrays = cache.get(row_key, partial(chunk.vectors, encoder, row.method, boxes, options))
            owner = np.repeat(np.arange(start, start + len(arrays["counts"])), arrays["counts"])
            chunks[row].append((arrays["vectors"], owner))
    return {row: (np.concatenate([v for v, _ in parts]), np.concatenate([o for _, o in parts]))
            for row, parts in chunks.items()}  # fmt: skip


@dataclass
class _Chunk:
    """Scenes whose images are loaded, and whose objects are detected, at most once."""

    scenes: Sequence[Scene]
    detector: Detector | None
    _images: list[Image.Image] = field(default_factory=list)
    _objects: dict[str, list[Sequence[DetectedObject]]] = field(default_factory=dict)

    def vectors(self, encoder: Encoder, method: str, boxes: str, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The vectors of all scenes, and how many each has."""
        if not self._images:
            self._images = [scene.load() for scene in self.scenes]
        scenes = list(zip(self._images, self._scene_objects(boxes), strict=True))
        vectors = REPRESENTATIONS[method](encoder, scenes, options)
        counts = np.array([len(scene) for scene in vectors])
        return {"vectors": np.concatenate([scene.float().cpu().numpy() for scene in vectors]), "counts": counts}

    def _scene_objects(self, boxes: str) -> list[Sequence[DetectedObject]]:
        if boxes not in self._objects:
            if boxes == "annotated":
                self._objects[boxes] = [scene.objects() for scene in self.scenes]
            elif boxes == "detected" and self.detector is not None:
                self._objects[boxes] = [self.detector(image) for image in self._images]
            else:
                self._objects[boxes] = [()] * len(self._images)
        return self._objects[boxes]


def _pool(row: Row) -> Pool:
    """How a query is pooled for comparison with a row's scenes."""
    return gem if row.method == "gem" else embed_images


def _query_vectors(
    encoder: Encoder, queries: Sequence[InstanceQuery], pools: Collection[Pool]
) -> dict[Pool, np.ndarray]:
    batches: dict[Pool, list[np.ndarray]] = {pool: [] for pool in pools}
    for start in range(0, len(queries), CHUNK):
        images = [query.load() for query in queries[start : start + CHUNK]]
        for pool, arrays in batches.items():
            arrays.append(pool(encoder, images).float().cpu().numpy())
    return {pool: np.concatenate(arrays) for pool, arrays in batches.items()}


def _best_scores(scores: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The best score of each scene's vectors, [queries, scenes]."""
    best = np.full((len(scores), count), -np.inf, np.float32)
    for scene, column in zip(owner, scores.T, strict=True):
        np.maximum(best[:, scene], column, out=best[:, scene])
    return best


def _average_precisions(scores: np.ndarray, relevant: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Of each query, [n]; scenes of equal score keep their order in the gallery."""
    values = []
    for score, correct, left_out in zip(scores, relevant, ignored, strict=True):
        order = np.argsort(-score, kind="stable")
        ranks = np.flatnonzero(correct[order[~left_out[order]]]) + 1
        values.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
    return np.array(values)


def _groups(data: InstanceDataset) -> dict[tuple[str, str], np.ndarray]:
    """Which scenes count, bool [scenes]: all, and those of each group."""
    groups = {("", ""): np.ones(len(data.scenes), bool)}
    for group in dict.fromkeys(item for scene in data.scenes for item in scene.groups.items()):
        groups[group] = np.array([group in scene.groups.items() for scene in data.scenes])
    return groups


def published_value(experiment: InstanceRetrieval, row: Row, dataset: str, encoder: str) -> float | None:
    """The paper's value of a row; None where it has none.

    A row without boxes has the same value for annotated and for detected boxes, in the columns VoxDet and VoxDetW.
    """
    if row.published is None:
        return None
    boxes = row.options.get("boxes")
    columns = {"annotated": (dataset,), "detected": (f"{dataset}-detected",)}
    values = (
        published.value("mao", table, column, encoder, row.published, "mAP")
        for table in experiment.tables
        for column in columns.get(boxes or "", (dataset, f"{dataset}-detected"))
    )
    return next((value for value in values if value is not None), None)


MINI_OPTIONS = {"alpha": 1.0, "steps": 40}  # chosen with needles-dev: foir.small_objects.mao.MODES["mini"]
EXPERIMENTS = (
    InstanceRetrieval(
        "needles-playroom", "Held-out toys on 0.5 to 5 % of scenes with up to 30 objects", ("needles-playroom",),
        ("mini",),
        (
            Row("cls"),
            Row("gem"),
            *(
                Row(method, {"boxes": boxes, **options})
                for boxes in BOXES
                for method, options in (("mean", {}), ("max", {}), ("full-image", MINI_OPTIONS), ("mao", MINI_OPTIONS))
            ),
            Row("cls", {"trained": True}),
            Row("mean", {"trained": True, "boxes": "annotated"}),
            Row("mao", {"trained": True, "boxes": "annotated", **MINI_OPTIONS}),
        ),
    ),
    InstanceRetrieval(
        "needles-dev", "Weight of the crops' own vectors, and number of steps, of Stage B of MaO for mini",
        ("needles-dev",), ("mini",),
        (
            Row("cls"),
            Row("mean", {"boxes": "annotated"}),
            *(
                Row("mao", {"boxes": "annotated", "alpha": alpha, "steps": steps})
                for alpha in (0.1, 0.3, 1.0, 3.0)
                for steps in (20, 40)
            ),
            Row("mao", {"boxes": "annotated"}),
        ),
    ),
    InstanceRetrieval(
        "needles-resolution", "The same scenes at half and at double resolution",
        ("needles-playroom-320", "needles-playroom-1280"), ("mini",),
        (Row("cls"), Row("mean", {"boxes": "annotated"}), Row("mao", {"boxes": "annotated", **MINI_OPTIONS})),
    ),
)  # fmt: skip
