"""The scores of a query: of every best region, of whole images and of words, fused and ranked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from foir.image_text import TextFeatures
from foir.index import Index, Item, Regions
from foir.index.mmap import gather
from foir.index.records import Background
from foir.ranking import exact
from foir.ranking.fusion import Part, zscore_fuse
from foir.ranking.regions import best_regions, best_scores
from foir.ranking.scorer import Scorer, relevance_scores
from foir.ranking.topk import TopK, top_k
from foir.regions.views import to_pixels
from foir.search.judging import moves_regions
from foir.search.lexical import WordMatches
from foir.search.likelihood import Spread
from foir.search.query import FEEDBACK_CONTEXT, TEXT_CONTEXT, Query
from foir.search.query_encoder import QueryFeatures
from foir.search.results import HitRegion

if TYPE_CHECKING:
    from foir.index.graph import RegionGraph

NEAR = 1000  # regions that a graph is asked for, and images near as a whole, in a very large index
SAID = 3.0  # standard deviations that an image gains whose texts hold all the words; chosen on Flickr8k's dev list
AS_IT_IS = np.array([-1.0, 1.0], np.float32)  # a standard of mean 0 and deviation 1
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
        matches: Images that say the words of the text; None without one.
        moved: `targets` after results were judged (`foir.search.judging`); None where no regions were judged.
    """

    image: QueryFeatures | None
    mode: str
    text: TextFeatures | None
    signs: tuple[float, ...]
    words_meet_regions: bool = False
    matches: WordMatches | None = None
    moved: tuple[np.ndarray, ...] | None = None

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
    def says_words(self) -> bool:
        """Some image says a word of the text."""
        return self.matches is not None and bool(self.matches.share.any())

    @property
    def targets(self) -> tuple[np.ndarray, ...]:
        """What a result should hold, as region vectors [n, dim]: each thing, and what the text names."""
        if self.moved is not None:
            return self.moved
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


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best rows, and for each of the query's targets the scores of all best regions."""

    top: TopK
    targets: tuple[Part, ...] = ()

    @property
    def spreads(self) -> tuple[Spread, ...]:
        """What the scores of best regions are like in the collection, for each target."""
        return tuple(Spread.of(part.scores, part.reference) for part in self.targets)


@dataclass(frozen=True, eq=False)
class _Scanned:
    """A part of a query whose scores may come from a scan in half precision.

    Attributes:
        part: The scores.
        exact: Exact scores of some rows of the index, float32; None where the part's are.
    """

    part: Part
    exact: Callable[[np.ndarray], np.ndarray] | None = None


def rank(query: Query, encoded: EncodedQuery, pool: Candidates) -> Ranking:
    """The k best rows by the sum of all parts; by the raw scores where there is only one."""
    regions = _region_parts(query, encoded, pool)
    parts = [*regions, *_other_parts(query, encoded, pool, exactly=not regions)]
    is_sum = len(parts) > 1
    scores = zscore_fuse([each.part for each in parts]) if is_sum else parts[0].part.scores.copy()
    scores[pool.excluded] = -np.inf
    if disliked := [pool.index.row(id) for id in query.feedback.disliked]:
        scores[disliked] = scores[np.isfinite(scores)].min() - 1
    rows = top_k(scores, min(pool.k + REFINED, len(scores))).rows[0]
    for part, exact_scores in ((each.part, each.exact) for each in parts):
        if exact_scores is not None:
            better, known = exact_scores(rows), part.scores[rows]
            scores[rows] += part.standard(better) - part.standard(known) if is_sum else better - known
    return Ranking(top_k(scores, pool.k), tuple(each.part for each in regions[: len(encoded.targets)]))


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


def _region_parts(query: Query, encoded: EncodedQuery, pool: Candidates) -> list[_Scanned]:
    """Scores of the best regions."""
    regions = pool.regions
    if regions is None:
        return []
    count = len(encoded.things)
    shares = [_image_weight(query, encoded) * (1 - _context(query)) / max(1, count)] * count
    share = _text_weight(query, encoded) * (1 - TEXT_CONTEXT)
    shares += [share] * (len(encoded.targets) - count)
    weighted = list(zip(shares, encoded.targets, strict=True))
    if encoded.words_meet_regions:
        weighted += [(-share, vector[None]) for sign, vector in encoded.words if sign < 0]
    if not any(shares):
        return []
    if regions.graph is not None and query.is_unrestricted and weighted:
        rows = _near_rows(pool.index, regions.graph, encoded, [vectors for _, vectors in weighted])
        if len(rows) >= query.k + REFINED:
            return _near_parts(regions, rows, weighted)
    return [
        _Scanned(pool.part(weight, best_scores(regions, vectors)), partial(_exact_regions, regions, vectors))
        for weight, vectors in weighted
    ]


def _exact_regions(regions: Regions, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.array([region.score for region in best_regions(regions, rows.tolist(), vectors)], np.float32)


def _near_rows(index: Index, graph: RegionGraph, encoded: EncodedQuery, targets: Sequence[np.ndarray]) -> list[int]:
    """Rows of the images whose regions are near to a target, or which are near as a whole, ascending."""
    rows = {index.row(id) for vectors in targets for id in graph.near(vectors, NEAR)}
    if encoded.image is not None:
        vector = encoded.image.features.vectors[:1].cpu().numpy()
        rows |= set(exact.search(index.space().shards, vector, NEAR).rows[0].tolist())
    for sign, vector in encoded.words:
        if sign > 0:
            rows |= set(exact.search(index.space("text").shards, vector[None], NEAR).rows[0].tolist())
    if encoded.matches is not None:
        share = encoded.matches.share
        rows |= {row for row in np.argsort(-share, kind="stable")[:NEAR].tolist() if share[row] > 0}
    return sorted(rows)


def _near_parts(regions: Regions, rows: Sequence[int], weighted: Sequence[tuple[float, np.ndarray]]) -> list[_Scanned]:
    """As `_region_parts`: scores of these rows, -inf for all others."""
    near, parts = regions.subset(rows), []
    for weight, vectors in weighted:
        scores = np.full(len(regions), -np.inf, np.float32)
        scores[rows] = best_scores(near, vectors)
        part = Part(weight, scores, best_scores(regions.background, vectors))
        parts.append(_Scanned(part, partial(_exact_regions, regions, vectors)))
    return parts


def _other_parts(query: Query, encoded: EncodedQuery, pool: Candidates, *, exactly: bool) -> list[_Scanned]:
    """Scores of whole images against the query image, the judged images and the words.

    They are exact where no regions come first, so that the papers' methods alone rank as they always did.
    """

    def compare(weight: float, shards: Sequence[np.ndarray], vector: np.ndarray) -> _Scanned:
        if exactly:
            return _Scanned(pool.part(weight, exact.scores(shards, vector)))
        return _Scanned(pool.part(weight, exact.scan(shards, vector)), lambda rows: gather(shards, rows) @ vector)

    parts: list[_Scanned] = []
    judged = query.feedback
    liked, disliked = (sorted({pool.index.row(id) for id in ids}) for ids in (judged.liked, judged.disliked))
    if encoded.image is not None and pool.scorer is not None:
        features = encoded.image.features
        rows = pool.scorer.unit_vectors(features, encoded.mode)
        vector = features.vectors[0].cpu().numpy()
        weight = _image_weight(query, encoded) * (_context(query) if encoded.things else 1.0)
        if judged:
            scores = relevance_scores(rows, vector, liked, disliked, judged.rule)
            parts.append(_Scanned(pool.part(weight, scores)))
        else:
            parts.append(compare(weight, rows, vector))
    elif judged:
        scores = relevance_scores(pool.text_shards, None, liked, disliked, judged.rule)
        parts.append(_Scanned(pool.part(1.0, scores)))
    weight = _text_weight(query, encoded) * (TEXT_CONTEXT if encoded.words_meet_regions else 1.0)
    for sign, vector in encoded.words:
        parts.append(compare(sign * weight, pool.text_shards, vector))
    if encoded.matches is not None and encoded.says_words:
        share = _text_weight(query, encoded) * SAID
        parts.append(_Scanned(Part(share, encoded.matches.share, reference=AS_IT_IS)))
    return parts


def _context(query: Query) -> float:
    """Weight of whole images against regions; judgements of whole images count with them."""
    judged = query.feedback
    return max(query.context, FEEDBACK_CONTEXT) if judged and not moves_regions(judged) else query.context


def _image_weight(query: Query, encoded: EncodedQuery) -> float:
    return 1.0 if encoded.text is None else 1 - query.text_weight


def _text_weight(query: Query, encoded: EncodedQuery) -> float:
    return 1.0 if encoded.image is None else query.text_weight
