"""Instance retrieval on scenes of many objects, each represented by one vector or by several of which the best counts.

The query is the plain feature of an image of the instance alone (GeM's for GeM). mAP covers the whole gallery: the
average precision of a query is the mean of the precisions at each of its relevant scenes, divided by their number (MaO
spec, section 6). Results are also split by the instance's area on a scene and by the number of objects there: for one
such group, relevant scenes of the others are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.small_objects import detect, finetune
from foir.small_objects.embed import embed_images
from foir.terminal import write

from ..datasets.base import InstanceDataset, InstanceQuery
from ..metrics.retrieval import Mean, image_mean
from ..report import published
from ..report.results import Cell
from .representations import REPRESENTATIONS, Pool, gem
from .scene_vectors import BoxMasks, ObjectSources, scene_vectors
from .specs import ExperimentSpec, Row, RunContext

BOXES = ("annotated", "detected")
BATCH = 16  # query images
AREAS = (0.0075, 0.015, 0.03, 0.1)  # limits between groups, as shares of the image
COUNTS = (1, 2, 3, 4, 5, 6, 7, 10, 15, 25)  # the smallest number of objects of each group
OTHER_COUNT = {"annotated": "detections", "detected": "objects"}  # the count that rows of these boxes are not split by
_Groups = dict[tuple[str, str], np.ndarray]  # option and value, and which pairs count, bool [queries, scenes]


@dataclass(frozen=True)
class InstanceRetrieval(ExperimentSpec):
    """Instance retrieval on scenes of many objects.

    Attributes:
        rows: `method` is one of `representations.REPRESENTATIONS`, or another paper's, whose numbers are copied;
            options: "boxes" ("annotated" or "detected"), "trained" where the encoder was fine-tuned first.
        tables: Their names in the paper or its repository.
        compared: Methods that the rows after them are compared with, where they have the same boxes or none.
    """

    data_kind = InstanceDataset
    rows: tuple[Row, ...]
    tables: tuple[str, ...] = ()
    compared: tuple[str, ...] = ("cls", "mean")

    def load_model(self, name: str, context: RunContext) -> Encoder:
        """Load the encoder, with its adapter if there is one."""
        encoder: Encoder = super().load_model(name, context)
        return encoder if context.adapter is None else finetune.load_adapter(encoder, context.adapter)

    def measure(self, data: InstanceDataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """The mAP of each row, overall and by group; `limit` queries. Intervals are over instances.

        With an adapter only the rows of a fine-tuned encoder are measured, otherwise only the others. Rows of detected
        boxes are not measured where the detector cannot be loaded, nor those of annotated boxes where nothing makes the
        masks that the data set lacks.
        """
        queries = data.queries[: context.limit]
        sources, rows = self._runnable(data, encoder, context)
        started = time.perf_counter()
        scenes = scene_vectors(data, encoder, sources, rows, context.cache)
        builder = self.cells(data, encoder, started)
        vectors = _query_vectors(encoder, queries, {_pool(row) for row in rows})
        relevant = np.array([[query.instance in scene.areas for scene in data.scenes] for query in queries])
        instances = np.unique([query.instance for query in queries], return_inverse=True)[1]
        cells: list[Cell] = []
        bases: dict[tuple[str, str], dict[tuple[str, str], Mean]] = {}
        detected = [item.objects for row, item in scenes.items() if row.options.get("boxes") == "detected"]
        groups = _groups(data, queries, detected[0] if detected else None)
        for row in self.rows:
            cell = builder.using(method=row.method, options=row.options)
            reference = published_value(self, row, data.name, encoder.name)
            if row not in scenes:
                if row.method in REPRESENTATIONS or reference is not None:
                    status = "not_run" if row.method in REPRESENTATIONS else "published_only"
                    cells.append(cell.missing("mAP", reference, status))
                continue
            scores = _best_scores(vectors[_pool(row)] @ scenes[row].vectors.T, scenes[row].owner, len(data.scenes))
            for (name, group), inside in groups.items():
                counted = relevant & inside
                used = counted.any(1)
                if not used.any() or name == OTHER_COUNT.get(row.options.get("boxes", "")):
                    continue
                values = _average_precisions(scores[used], counted[used], (relevant & ~inside)[used])
                mean = image_mean(values, instances[used])
                options = {**row.options, **({name: group} if name else {})}
                boxes, known = row.options.get("boxes", ""), bases.setdefault((name, group), {})
                compared = {method: base for (method, kind), base in known.items() if kind in ("", boxes)}
                group_cell = cell.using(options=options, n=int(used.sum()))
                cells += group_cell.compared("mAP", mean, compared, None if name else reference)
                if row.method in self.compared:
                    known.setdefault((row.method, boxes), mean)
        return cells

    def _runnable(
        self, data: InstanceDataset, encoder: Encoder, context: RunContext
    ) -> tuple[ObjectSources, list[Row]]:
        """Where objects come from, as far as rows need it, and the rows that can be measured."""
        trained = context.adapter is not None
        rows = [
            row for row in self.rows if row.method in REPRESENTATIONS and row.options.get("trained", False) == trained
        ]
        plain = super().load_model(encoder.name, context) if trained else encoder
        sources = ObjectSources()
        loaders: dict[str, Callable[[], ObjectSources]] = {
            "detected": lambda: ObjectSources(detect.load(plain), sources.masks),
            "annotated": lambda: ObjectSources(sources.detector, None if data.has_masks else BoxMasks.load(plain)),
        }
        for boxes, load in loaders.items():
            if any(row.options.get("boxes") == boxes for row in rows):
                try:
                    sources = load()
                except Unavailable as error:
                    write(f"{error} Rows of {boxes} boxes are not run.")
                    rows = [row for row in rows if row.options.get("boxes") != boxes]
        return sources, rows


def _pool(row: Row) -> Pool:
    """How a query is pooled for comparison with a row's scenes."""
    return gem if row.method == "gem" else embed_images


def _query_vectors(
    encoder: Encoder, queries: Sequence[InstanceQuery], pools: Collection[Pool]
) -> dict[Pool, np.ndarray]:
    batches: dict[Pool, list[np.ndarray]] = {pool: [] for pool in pools}
    for start in range(0, len(queries), BATCH):
        images = [query.load() for query in queries[start : start + BATCH]]
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


def _groups(data: InstanceDataset, queries: Sequence[InstanceQuery], detections: np.ndarray | None) -> _Groups:
    """All pairs of query and scene, then those of each area of the instance, and of each number of objects."""
    areas = np.array([[scene.areas.get(query.instance) or np.nan for scene in data.scenes] for query in queries])
    groups = {("", ""): np.ones(areas.shape, bool)}
    for low, high in zip((0.0, *AREAS), (*AREAS, 1.0), strict=True):
        inside = (areas >= low) & ((areas < high) | (high == 1))
        groups["size", f"{100 * low:g} to {100 * high:g} %"] = inside
    numbers = {"objects": np.array([scene.count for scene in data.scenes])}
    if detections is not None:
        numbers["detections"] = detections
    for name, counts in numbers.items():
        for low, above in zip(COUNTS, (*COUNTS[1:], np.inf), strict=True):
            label = f"{low}+" if np.isinf(above) else str(low) if above == low + 1 else f"{low} to {above - 1:.0f}"
            groups[name, label] = np.broadcast_to((counts >= low) & (counts < above), areas.shape)
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


MINI_OPTIONS = {"alpha": 0.3, "steps": 40}  # chosen with needles-dev: foir.small_objects.mao.MODES["mini"]
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
        "needles-regions", "Region vectors of the same scenes, beside one vector for each crop", ("needles-playroom",),
        ("mini",),
        (
            Row("cls"),
            *(Row("max", {"boxes": boxes}) for boxes in BOXES),
            *(Row("regions", {"views": views}) for views in ("whole", "tiles")),
            *(Row("regions", {"views": "crops", "boxes": boxes}) for boxes in BOXES),
        ),
        compared=("cls", "max"),
    ),
    InstanceRetrieval(
        "needles-dev", "Weight of the crops' own vectors, and number of steps, of Stage B of MaO for mini",
        ("needles-dev",), ("mini",),
        (
            Row("cls"),
            Row("mean", {"boxes": "annotated"}),
            *(
                Row("mao", {"boxes": "annotated", "alpha": alpha, "steps": steps})
                for alpha, steps in ((0.03, 80), (0.1, 80), (0.3, 80), (1.0, 80), (0.3, 40))
            ),
        ),
    ),
    InstanceRetrieval(
        "needles-resolution", "The same scenes at half and at double resolution",
        ("needles-playroom-320", "needles-playroom-1280"), ("mini",),
        (Row("cls"), Row("mean", {"boxes": "annotated"}), Row("mao", {"boxes": "annotated", **MINI_OPTIONS})),
    ),
)  # fmt: skip
