"""Rankings of a gallery for things that are pointed at, by region vectors and by the papers' methods.

A picture's score is `(1 - context) z(best region) + context z(method's vector . picture's vector)`, z over all
pictures, as in `foir.search.query.Query`.
"""

from __future__ import annotations

from collections.abc import Collection
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

from ..datasets.base import Dataset
from ..datasets.things import point_at_things
from .query_features import NumberedQueries, select_queries
from .region_vectors import CROP, METHODS, PARTS, GalleryRegions, blend, gallery_regions, thing_vectors, unit
from .results_cache import ResultsCache

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


@dataclass(eq=False)
class RegionRanking:
    """Ranks a gallery for all queries; rows share encoded pictures and things, and scores of equal regions."""

    data: Dataset
    encoder: Encoder
    queries: NumberedQueries
    results: ResultsCache
    _galleries: dict[str, GalleryRegions] = field(default_factory=dict)
    _regions: dict[Setting, tuple[np.ndarray, int]] = field(default_factory=dict)
    _near: dict[CloseUp, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of_things(cls, data: Dataset, encoder: Encoder, results: ResultsCache, limit: int | None) -> RegionRanking:
        """For the things of `point_at_things`; `limit` is the number of query pictures, None for all."""
        data = point_at_things(data)
        queries = sorted(select_queries(data, limit), key=lambda numbered: numbered[1].image)
        return cls(data, encoder, queries, results)

    @cached_property
    def things(self) -> dict[str, np.ndarray]:
        """Vectors of what the queries point at (`thing_vectors`)."""
        return thing_vectors(self.encoder, self.data, self.queries, (*METHODS, *PARTS), self.results)

    @cached_property
    def crops(self) -> np.ndarray:
        """Vectors of the things as crops of their own, float32 [n, dim]."""
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

    @property
    def images(self) -> np.ndarray:
        """The picture of each query, int [n]."""
        return np.array([query.image for _, query in self.queries])

    @property
    def categories(self) -> np.ndarray:
        """The category of each query, int [n]."""
        return np.array([query.category for _, query in self.queries])

    def scores(self, row: Setting) -> np.ndarray:
        """The score of each picture for each query, float32 [n, gallery]; -inf for a query's own picture."""
        parts = []
        if row.way:
            parts.append((1 - row.context, self.best_regions(row)))
        if row.context or not row.way:
            parts.append((row.context or 1.0, self.wholes(row)))
        scores = np.stack(
            [zscore_fuse([Part(weight, each[number]) for weight, each in parts]) for number in range(len(self.queries))]
        )
        if self.data.leave_one_out:
            scores[np.arange(len(scores)), self.images] = -np.inf
        return scores

    def wholes(self, row: Setting) -> np.ndarray:
        """The cosine of each picture as a whole with the row's method's vector, [queries, gallery]."""
        return np.asarray(self.things[row.method] @ self.plain.T)

    def best_regions(self, row: Setting) -> np.ndarray:
        """The score of each picture's best region, [queries, gallery]."""
        return self._best_regions(row)[0]

    @property
    def plain(self) -> np.ndarray:
        """Unit vectors of whole pictures, float32 [gallery, dim]."""
        return self._gallery("whole").plain

    def regions(self, row: Setting) -> tuple[np.ndarray, np.ndarray]:
        """All region vectors of a row, float32 [m, dim], and where each picture's begin, int [gallery]."""
        return self._gallery(row.views).compressed(row.way, row.pooled, row.limit)

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
            vectors, starts = self.regions(row)
            asked = [self.asked(row)] + ([self.crops] if row.views == "crops" else [])
            best = np.full((len(self.queries), len(starts)), -np.inf, np.float32)
            for start, query in product(range(0, len(best), BLOCK), asked):
                scores = np.maximum.reduceat(query[start : start + BLOCK] @ vectors.T, starts, axis=1)
                np.maximum(best[start : start + BLOCK], scores, out=best[start : start + BLOCK])
            self._regions[key] = best, len(vectors)
        return self._regions[key]

    def asked(self, row: Setting) -> np.ndarray:
        """Vectors of all things, as `foir.regions.encoder.RegionEncoder.encode_query` makes them, float32 [n, dim]."""
        seen = [self.things, *(self.near(view) for view in row.close_ups)]
        mean = self._gallery("whole").mean
        return unit(np.mean([blend(parts, row.way, mean, row.pooled) for parts in seen], axis=0))


DEFAULT = Setting(RegionRecipe().way, METHOD, CONTEXT)
