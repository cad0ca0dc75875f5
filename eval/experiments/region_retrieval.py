"""Precision of pointing with region vectors, beside the papers' methods, which compare one vector a picture.

The queries are those of `eval.datasets.things.point_at_things`, the scores those of
`eval.experiments.region_ranking`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from foir.encoders.base import Encoder
from foir.regions.close_ups import CLOSE_UPS, CloseUp
from foir.search.query import CONTEXT, METHOD
from foir.terminal import write

from ..datasets.base import Dataset
from ..metrics.retrieval import Mean, category_mean, precision
from ..report.results import Cell
from .region_ranking import ALL, DEFAULT, RegionRanking, Setting
from .region_vectors import METHODS, PARTS
from .specs import ExperimentSpec, RunContext

K = 10


@dataclass(frozen=True)
class RegionRetrieval(ExperimentSpec):
    """Pointing with regions and without.

    Attributes:
        rows: In the table's order.
        first: What the first row is called in differences. Without a name, rows are compared with `cbir` and with the
            best of the papers' methods.
        by_size: Also split by the share of the picture that the box covers.
    """

    rows: tuple[Setting, ...]
    first: str = ""
    by_size: bool = False

    def measure(self, data: Dataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """MP@10 of each row, overall and by size, and the bytes that its regions take."""
        ranking = RegionRanking.of_things(data, encoder, context.cache, context.limit)
        data, queries = ranking.data, ranking.queries
        write(f"{data.name}: {len(queries)} things of {len({q.category for _, q in queries})} classes.")
        images, categories = ranking.images, ranking.categories
        groups = {"": np.ones(len(queries), bool)} | (ranking.size_groups() if self.by_size else {})
        ranking.load(self.rows)
        values, seconds = {}, {}
        for row in self.rows:
            started = time.perf_counter()
            values[row] = _precisions(ranking, row)
            seconds[row] = round(ranking.encode_seconds(row) + time.perf_counter() - started, 3)
        cells, builder = [], self.cells(data, encoder)
        for group, inside in groups.items():
            means = {
                row: category_mean(each[inside], images[inside], categories[inside]) for row, each in values.items()
            }
            bases = self._bases(means)
            for row, mean in means.items():
                cell = builder.using(
                    method=row.way or row.method,
                    options=row.options | ({"size": group} if group else {}),
                    n=int(inside.sum()),
                    seconds=seconds[row],
                )
                others = {name: base for name, (of, base) in bases.items() if of != row}
                cells += cell.compared(f"MP@{K}", mean, others)
                if row.way and not group:
                    cells.append(cell.using(unit="B").value("bytes a picture", ranking.bytes_a_picture(row)))
        return cells

    def _bases(self, means: Mapping[Setting, Mean]) -> dict[str, tuple[Setting, Mean]]:
        """What rows are compared with, by name: a row and its mean."""
        if self.first:
            return {self.first: (self.rows[0], means[self.rows[0]])}
        rivals = [row for row in self.rows if not row.way and row.method != "cbir"]
        best = max(rivals, key=lambda row: means[row].value)
        return {row.method: (row, means[row]) for row in (Setting(), best)}


def _precisions(ranking: RegionRanking, row: Setting) -> np.ndarray:
    """The precision at `K` of each query, [n]."""
    found = np.argsort(-ranking.scores(row), axis=1, kind="stable")[:, :K]
    return precision(ranking.data.labels[found, ranking.categories[:, None]])


WAYS = (*PARTS, "blended")
PAPERS = tuple(Setting(method=method) for method in METHODS)
ALONE = tuple(Setting(way) for way in WAYS)
PHOTOS, SCENES = ("coco_small", "voc12_part"), ("playroom-things", "playroom-things-instances")
DEV = ("voc12_part_dev", "playroom-dev", "playroom-dev-instances")
GRID = tuple(
    Setting(way, method, context)
    for way, method, context in product(
        WAYS, ("cbir", "phs", "attention_mask", "attention_mask|phs", "foveal"), (0.1, 0.2, 0.3, 0.4)
    )
)
POOLED_GRID = tuple(
    Setting("blended", method, context, pooled=pooled)
    for pooled, (method, context) in product((0.25, 0.5, 1.0), (("cbir", 0.0), (METHOD, CONTEXT)))
)
PLAIN, MIRRORED = CloseUp(0.6), CloseUp(0.6, mirrored=True)
LOOKS = tuple(
    Setting("blended", METHOD, CONTEXT, close_ups=views)
    for views in ((), (PLAIN,), (MIRRORED,), (CloseUp(0.8), PLAIN), CLOSE_UPS, (*CLOSE_UPS, CloseUp(0.5)))
)
COUNTS = tuple(Setting("blended", limit=limit) for limit in (ALL, 32, 16, 12, 8, 4, 1))
VIEWS = tuple(Setting("blended", views=views) for views in ("whole", "tiles"))
EXPERIMENTS = (
    RegionRetrieval(
        "regions", "Pointing with region vectors, beside the papers' methods", (*PHOTOS, *SCENES), ("mini",),
        (*PAPERS, *ALONE, replace(DEFAULT, close_ups=()), DEFAULT), by_size=True,
    ),
    RegionRetrieval(
        "regions-dev", "The grid that the default of way, method and context is chosen from", DEV, ("mini",),
        (*PAPERS, *ALONE, *GRID, *POOLED_GRID),
    ),
    RegionRetrieval(
        "regions-k", "How many region vectors a picture needs", (*DEV, *PHOTOS, *SCENES), ("mini",), COUNTS,
        "all windows",
    ),
    RegionRetrieval(
        "regions-views", "Tiles as more views of the same pictures", ("coco_small", *SCENES), ("mini",),
        VIEWS, "the whole picture",
    ),
    RegionRetrieval(
        "regions-close-ups", "Seeing again from nearer what a query points at", DEV, ("mini",), LOOKS,
        "the whole picture alone",
    ),
)  # fmt: skip
