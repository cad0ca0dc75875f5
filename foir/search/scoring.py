"""The scores of a query: of every best region, of whole images and of words, fused and ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foir.image_text import TextFeatures
from foir.index import Index, Item, Regions
from foir.index.records import Background
from foir.ranking import exact
from foir.ranking.fusion import Part, zscore_fuse
from foir.ranking.regions import best_regions, best_scores
from foir.ranking.scorer import Scorer, relevance_scores
from foir.ranking.topk import TopK, top_k
from foir.regions.views import to_pixels
from foir.search.query import FEEDBACK_CONTEXT, TEXT_CONTEXT, Query
from foir.search.query_encoder import QueryFeatures
from foir.search.results import HitRegion

if TYPE_CHECKING:
    from foir.index.graph import RegionGraph

NEAR = 1000  # regions that a graph is asked for, and images near as a whole, in a very large index
REFINED = 64  # images beyond k whose region scores are computed again, exactly


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query in vectors.

    Attributes:
        image: Features of the query image; None for words alone.
        mode: How images are scored against the image's vector: "query" or "query-db".
        text: Features of text and negative text, in this order; None without words.
        signs: 1 for text and -1 for negative text, in the same order.
        words_meet_regions: The words are compared with regions too.
    """

    image: QueryFeatures | None
    mode: str
    text: TextFeatures | None
    signs: tuple[float, ...]
    words_meet_regions: bool = False

    @property
    def space(self) -> str:
        """The space that the query's first vector is compared in."""
        return "text" if self.image is None else "image"

    @property
    def things(self) -> tuple[np.ndarray, ...]:
        """Region vectors of each thing that is pointed at; empty where regions do not count."""
        return () if self.image is None else self.image.things

    @property
    def words(self) -> tuple[tuple[float, np.ndarray], ...]:
        """Sign and unit vector [dim] of text and negative text."""
        return () if self.text is None else tuple(zip(self.signs, self.text.vectors, strict=True))

    @property
    def targets(self) -> tuple[np.ndarray, ...]:
        """What a result should hold, as region vectors [n, dim]: each thing, and what the text names."""
        named = (vector[None] for sign, vector in self.words if sign > 0 and self.words_meet_regions)
        return (*self.things, *named)

    @property
    def uses_regions(self) -> bool:
        """Regions count, if the index has any."""
        return bool(self.things) or self.words_meet_regions


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is ranked.

    Attributes:
        index: Whatever can be a result, n images.
        scorer: Of the image's space, with the background behind the index's rows; None for words alone.
        excluded: Rows that may not be results, bool [n].
        k: Number of results.
        background: Images whose scores are the standard; None for those of the index.
    """

    index: Index
    scorer: Scorer | None
    excluded: np.ndarray
    k: int
    background: Background | None = None

    @property
    def text_shards(self) -> tuple[np.ndarray, ...]:
        """The text space's shards, and the background's behind them."""
        behind = None if self.background is None else self.background.spaces["text"]
        return self.index.space("text").followed_by(behind).shards

    @property
    def regions(self) -> Regions | None:
        """The index's regions, and the background's behind them; None where the index has none."""
        behind = None if self.background is None else self.background.regions
        return None if self.index.regions is None else self.index.regions.followed_by(behind)

    def part(self, weight: float, scores: np.ndarray) -> Part:
        """A part of the query by the scores of the index's images and, behind them, of the background's."""
        count = len(self.index)
        return Part(weight, scores[:count], None if self.background is None else scores[count:])


def rank(query: Query, encoded: EncodedQuery, pool: Candidates) -> TopK:
    """The k best rows by the sum of all parts; by the raw scores where there is only one."""
    regions, others = _region_parts(query, encoded, pool), _other_parts(query, encoded, pool)
    parts = [*(part for part, _ in regions), *others]
    scores = zscore_fuse(parts) if len(parts) > 1 else parts[0].scores
    scores[pool.excluded] = -np.inf
    if regions and pool.index.regions is not None:  # the scan of regions is in half precision
        rows = top_k(scores, min(pool.k + REFINED, len(scores))).rows[0]
        for part, vectors in regions:
            found = best_regions(pool.index.regions, rows.tolist(), vectors)
            precise = part.standard(np.array([region.score for region in found], np.float32))
            scores[rows] += precise - part.standard(part.scores[rows])
    return top_k(scores, pool.k)


def hit_regions(
    index: Index, rows: Sequence[int], items: Sequence[Item], targets: Sequence[np.ndarray]
) -> tuple[tuple[HitRegion, ...], ...]:
    """The best region of each result for each target; empty without targets or regions."""
    if not targets or index.regions is None:
        return ()
    found = zip(*(best_regions(index.regions, rows, vectors) for vectors in targets), strict=True)
    return tuple(
        tuple(HitRegion(to_pixels(region.box, (item.width, item.height)), region.score) for region in regions)
        for item, regions in zip(items, found, strict=True)
    )


def _region_parts(query: Query, encoded: EncodedQuery, pool: Candidates) -> list[tuple[Part, np.ndarray]]:
    """Scores of the best regions, each with the vectors that they were compared with."""
    regions = pool.regions
    if regions is None:
        return []
    share = _image_weight(query, encoded) * (1 - _context(query)) / max(1, len(encoded.things))
    weighted = [(share, vectors) for vectors in encoded.things]
    if encoded.words_meet_regions:
        share = _text_weight(query, encoded) * (1 - TEXT_CONTEXT)
        weighted += [(sign * share, vector[None]) for sign, vector in encoded.words]
    weighted = [(weight, vectors) for weight, vectors in weighted if weight]
    if regions.graph is not None and query.is_unrestricted and weighted:
        rows = _near_rows(pool.index, regions.graph, encoded, [vectors for _, vectors in weighted])
        if len(rows) >= query.k + REFINED:
            return _near_parts(regions, rows, weighted)
    return [(pool.part(weight, best_scores(regions, vectors)), vectors) for weight, vectors in weighted]


def _near_rows(index: Index, graph: RegionGraph, encoded: EncodedQuery, targets: Sequence[np.ndarray]) -> list[int]:
    """Rows of the images whose regions are near to a target, or which are near as a whole, ascending."""
    rows = {index.row(id) for vectors in targets for id in graph.near(vectors, NEAR)}
    if encoded.image is not None:
        vector = encoded.image.features.vectors[:1].cpu().numpy()
        rows |= set(exact.search(index.space().shards, vector, NEAR).rows[0].tolist())
    for sign, vector in encoded.words:
        if sign > 0:
            rows |= set(exact.search(index.space("text").shards, vector[None], NEAR).rows[0].tolist())
    return sorted(rows)


def _near_parts(
    regions: Regions, rows: Sequence[int], weighted: Sequence[tuple[float, np.ndarray]]
) -> list[tuple[Part, np.ndarray]]:
    """As `_region_parts`: scores of these rows, -inf for all others."""
    near, parts = regions.subset(rows), []
    for weight, vectors in weighted:
        scores = np.full(len(regions), -np.inf, np.float32)
        scores[rows] = best_scores(near, vectors)
        parts.append((Part(weight, scores, best_scores(regions.background, vectors)), vectors))
    return parts


def _other_parts(query: Query, encoded: EncodedQuery, pool: Candidates) -> list[Part]:
    """Scores of whole images against the query image, the judged images and the words."""
    parts: list[Part] = []
    judged = query.feedback
    liked, disliked = (sorted({pool.index.row(id) for id in ids}) for ids in (judged.liked, judged.disliked))
    if encoded.image is not None and pool.scorer is not None:
        features = encoded.image.features
        rows = pool.scorer.unit_vectors(features, encoded.mode)
        vector = features.vectors[0].cpu().numpy()
        weight = _image_weight(query, encoded) * (_context(query) if encoded.things else 1.0)
        parts.append(pool.part(weight, relevance_scores(rows, vector, liked, disliked, judged.rule)))
    elif judged:
        parts.append(pool.part(1.0, relevance_scores(pool.text_shards, None, liked, disliked, judged.rule)))
    weight = _text_weight(query, encoded) * (TEXT_CONTEXT if encoded.words_meet_regions else 1.0)
    for sign, vector in encoded.words:
        parts.append(pool.part(sign * weight, exact.scores(pool.text_shards, vector)))
    return parts


def _context(query: Query) -> float:
    """Weight of whole images against regions: judgements are about whole images, so that they count with them."""
    return max(query.context, FEEDBACK_CONTEXT) if query.feedback else query.context


def _image_weight(query: Query, encoded: EncodedQuery) -> float:
    return 1.0 if encoded.text is None else 1 - query.text_weight


def _text_weight(query: Query, encoded: EncodedQuery) -> float:
    return 1.0 if encoded.image is None else query.text_weight
