"""Precision of pointing with region vectors, beside the papers' methods, which compare one vector a picture.

The queries are those of `eval.datasets.things.point_at_things`. A picture's score is
`(1 - context) z(best region) + context z(method's vector . picture's vector)`, z over all pictures, as in
`foir.search.query.Query`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np

from foir.encoders.base import Encoder
from foir.ranking.fusion import Part, zscore_fuse
from foir.regions.close_ups import CLOSE_UPS, CloseUp
from foir.regions.recipe import MAX_LIMIT, RegionRecipe
from foir.regions.ways.blended import POOLED
from foir.search.query import CONTEXT, METHOD
from foir.terminal import write

from ..datasets.base import Dataset
from ..datasets.things import point_at_things
from ..metrics.retrieval import Mean, category_mean, precision
from ..report.results import Cell
from .query_features import NumberedQueries, select_queries
from .region_vectors import CROP, METHODS, PARTS, GalleryRegions, blend, gallery_regions, thing_vectors, unit
from .results_cache import ResultsCache
from .specs import ExperimentSpec, RunContext

K = 10
BLOCK = 64  # queries compared with all regions at a time
ALL = MAX_LIMIT  # vectors a picture: none is merged
LIMIT = RegionRecipe().limit
AREAS = {True: (0.0, 0.01, 0.05, 1.0), False: (0.01, 0.03, 0.1, 0.3)}  # of composed scenes and of photos


@dataclass(frozen=True)
class Setting:
    """One line of a table.

    Attributes:
        way: Of the regions; "" for a method's one vector alone.
        method: Of the whole picture's part.
        context: Its weight.
        limit: Vectors a picture.
        views: Of the pictures.
        pooled: Weight of the pooled part in "blended".
        close_ups: Of what is pointed at.
    """

    way: str = ""
    method: str = "cbir"
    context: float = 0.0
    limit: int = LIMIT
    views: str = "whole"
    pooled: float = POOLED
    close_ups: tuple[CloseUp, ...] = CLOSE_UPS

    @property
    def options(self) -> dict[str, Any]:
        """As cells report them."""
        if not self.way:
            return {}
        options: dict[str, Any] = {"vectors": "all" if self.limit == ALL else self.limit, "context": self.context}
        if self.context:
            options["global"] = self.method
        if self.views != "whole":
            options["views"] = self.views
        if self.close_ups != CLOSE_UPS:
            names = (f"{view.zoom:g}{' mirrored' * view.mirrored}" for view in self.close_ups)
            options["close-ups"] = ", ".join(names) or "none"
        return options | ({} if self.pooled == POOLED else {"pooled": self.pooled})


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
        data = point_at_things(data)
        queries = sorted(select_queries(data, context.limit), key=lambda numbered: numbered[1].image)
        write(f"{data.name}: {len(queries)} things of {len({q.category for _, q in queries})} classes.")
        ranking = _Ranking(data, encoder, queries, context.cache)
        images, categories = (np.array([getattr(q, name) for _, q in queries]) for name in ("image", "category"))
        groups = {"": np.ones(len(queries), bool)} | (ranking.size_groups() if self.by_size else {})
        ranking.load(self.rows)
        values, seconds = {}, {}
        for row in self.rows:
            started = time.perf_counter()
            values[row] = ranking.precisions(row)
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


@dataclass(eq=False)
class _Ranking:
    """Ranks a gallery for all queries; rows share encoded pictures and things, and scores of equal regions."""

    data: Dataset
    encoder: Encoder
    queries: NumberedQueries
    results: ResultsCache
    _galleries: dict[str, GalleryRegions] = field(default_factory=dict)
    _regions: dict[Setting, tuple[np.ndarray, int]] = field(default_factory=dict)
    _near: dict[CloseUp, dict[str, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def things(self) -> dict[str, np.ndarray]:
        return thing_vectors(self.encoder, self.data, self.queries, (*METHODS, *PARTS), self.results)

    @cached_property
    def crops(self) -> np.ndarray:
        return thing_vectors(self.encoder, self.data, self.queries, (CROP,), self.results)[CROP]

    def near(self, view: CloseUp) -> dict[str, np.ndarray]:
        """`PARTS` of the things' close-ups."""
        if view not in self._near:
            self._near[view] = thing_vectors(self.encoder, self.data, self.queries, PARTS, self.results, view)
        return self._near[view]

    def load(self, rows: Collection[Setting]) -> None:
        """Encode what is not kept yet, so that it counts in no row's seconds."""
        views = {row.views for row in rows}
        for each in ("whole", *views):
            self._gallery(each)
        if "crops" in views:
            _ = self.crops
        for view in (view for row in rows if row.way for view in row.close_ups):
            self.near(view)

    def size_groups(self) -> dict[str, np.ndarray]:
        """Which queries are of each size, bool [n]; groups without any are left out."""
        share, groups = self.things["share"], {}
        for low, high in pairwise(AREAS[self.data.shared_gallery.startswith("playroom")]):
            inside = (share >= low) & ((share < high) | (high in (0.3, 1.0)) & (share <= high))
            if inside.any():
                groups[f"{100 * low:g} to {100 * high:g} %"] = inside
        return groups

    def precisions(self, row: Setting) -> np.ndarray:
        """The precision at `K` of each query, [n]."""
        parts = []
        if row.way:
            parts.append((1 - row.context, self._best_regions(row)[0]))
        if row.context or not row.way:
            parts.append((row.context or 1.0, self.things[row.method] @ self._gallery("whole").plain.T))
        images, categories = (np.array([getattr(q, name) for _, q in self.queries]) for name in ("image", "category"))
        found = []
        for number, image in enumerate(images):
            scores = zscore_fuse([Part(weight, scores[number]) for weight, scores in parts])
            if self.data.leave_one_out:
                scores[image] = -np.inf
            found.append(np.argsort(-scores, kind="stable")[:K])
        return precision(self.data.labels[np.stack(found), categories[:, None]])

    def encode_seconds(self, row: Setting) -> float:
        """Seconds of the row's vectors of all things, without the pictures' own encoding."""
        names = [*METHODS, *PARTS]
        used = {*(PARTS if row.way == "blended" else [row.way] if row.way else [])}
        used |= {row.method} if row.context or not row.way else set()
        near = sum(float(self.near(view)["seconds"].sum()) for view in row.close_ups) if row.way else 0.0
        return near + float(self.things["seconds"][:, [names.index(name) for name in used]].sum())

    def bytes_a_picture(self, row: Setting) -> float:
        """Bytes that an index stores for the regions of a picture."""
        dim = self.things["cbir"].shape[1]
        return self._best_regions(row)[1] / len(self.data.gallery) * (2 * dim + 4 * 2) + 4

    def _gallery(self, views: str) -> GalleryRegions:
        if views not in self._galleries:
            mean = None if views == "whole" else self._gallery("whole").mean
            self._galleries[views] = gallery_regions(self.encoder, self.data, views, self.results, mean)
        return self._galleries[views]

    def _best_regions(self, row: Setting) -> tuple[np.ndarray, int]:
        """The score of each picture's best region, [queries, gallery], and the number of all regions."""
        key = replace(row, method="", context=0.0)
        if key not in self._regions:
            vectors, starts = self._gallery(row.views).compressed(row.way, row.pooled, row.limit)
            asked = [self._asked(row)] + ([self.crops] if row.views == "crops" else [])
            best = np.full((len(self.queries), len(starts)), -np.inf, np.float32)
            for start, query in product(range(0, len(best), BLOCK), asked):
                scores = np.maximum.reduceat(query[start : start + BLOCK] @ vectors.T, starts, axis=1)
                np.maximum(best[start : start + BLOCK], scores, out=best[start : start + BLOCK])
            self._regions[key] = best, len(vectors)
        return self._regions[key]

    def _asked(self, row: Setting) -> np.ndarray:
        """Vectors of all things, as `foir.regions.encoder.RegionEncoder.encode_query` makes them, float32 [n, dim]."""
        seen = [self.things, *(self.near(view) for view in row.close_ups)]
        mean = self._gallery("whole").mean
        return unit(np.mean([blend(parts, row.way, mean, row.pooled) for parts in seen], axis=0))


WAYS = (*PARTS, "blended")
DEFAULT = Setting(RegionRecipe().way, METHOD, CONTEXT)
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
