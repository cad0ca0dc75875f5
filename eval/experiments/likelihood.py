"""How likely results hold the thing: what likelihoods are fitted from, and how well they agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foir import image_text
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.ranking.fusion import Part, zscore_fuse
from foir.regions.recipe import RegionRecipe
from foir.search.likelihood import Kind, evidence, model_of
from foir.search.query import TEXT_CONTEXT

from ..datasets.base import Dataset
from ..datasets.things import point_at_things
from ..metrics.calibration import brier_skill, calibration_error, image_interval, precision_above, recall_above
from ..report.results import Cell
from .query_features import select_queries
from .region_ranking import DEFAULT, RegionRanking
from .results_cache import ResultsCache
from .specs import ExperimentSpec, RunContext

K = 24  # results of a query, as many as the page shows


@dataclass(frozen=True, eq=False)
class Judged:
    """The first results of some queries.

    Attributes:
        evidence: From `foir.search.likelihood.evidence`, [queries, K, ...].
        holds: Whether the picture holds the thing, bool [queries, K].
        images: What intervals are drawn over, int [queries]: pictures that are pointed at, or names.
    """

    evidence: np.ndarray
    holds: np.ndarray
    images: np.ndarray


def pointed(data: Dataset, encoder: Encoder, results: ResultsCache, limit: int | None = None) -> Judged:
    """The first results of things that are pointed at, in the default way."""
    data = point_at_things(data)
    queries = sorted(select_queries(data, limit), key=lambda numbered: numbered[1].image)
    ranking = RegionRanking(data, encoder, queries, results)
    own = ranking.images if data.leave_one_out else np.full(len(queries), -1)
    judged = _first(ranking.scores(DEFAULT), ranking.best_regions(DEFAULT), own)
    return Judged(judged[0], data.labels[judged[1], ranking.categories[:, None]], ranking.images)


def named(data: Dataset, encoder: Encoder, results: ResultsCache) -> Judged:
    """The first results of names, by vectors of regions and of whole pictures, without any text of a picture.

    Raises:
        Unavailable: The data has no names.
    """
    names = [(name, column) for column, own in enumerate(_names(data)) for name in own if data.labels[:, column].any()]
    if not names:
        raise Unavailable(f"{data.name} has no names.")
    texts = image_text.load(encoder).encode_texts([name for name, _ in names]).vectors
    ranking = RegionRanking(data, encoder, [], results)
    vectors, starts = ranking.regions(DEFAULT)
    best = np.maximum.reduceat(texts @ vectors.T, starts, axis=1)
    wholes = texts @ ranking.plain.T
    parts = zip(best, wholes, strict=True)
    scores = np.stack([zscore_fuse([Part(1 - TEXT_CONTEXT, one), Part(TEXT_CONTEXT, other)]) for one, other in parts])
    columns = np.array([column for _, column in names])
    judged = _first(scores, best, np.full(len(names), -1))
    return Judged(judged[0], data.labels[judged[1], columns[:, None]], np.arange(len(names)))


def _names(data: Dataset) -> tuple[tuple[str, ...], ...]:
    return data.category_words or tuple((name,) for name in data.categories)


def _first(scores: np.ndarray, best: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evidence and rows of the first `K` results of each query, whose own picture is no result."""
    found, rows = [], []
    for number, place in enumerate(own.tolist()):
        others = np.delete(best[number], place) if place >= 0 else best[number]
        first = np.argsort(-scores[number], kind="stable")[:K]
        rows.append(first)
        found.append(evidence(best[number][first], float(others.max()), (float(others.mean()), float(others.std()))))
    return np.stack(found), np.stack(rows)


JUDGED = {"pointed": pointed, "named": named}


@dataclass(frozen=True)
class Likelihood(ExperimentSpec):
    """Likelihoods of the first results against the truth.

    Attributes:
        kind: How the thing is known.
    """

    kind: Kind = "pointed"

    def measure(self, data: Dataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """Brier skill over the base rate, calibration error, and what is called likely.

        Raises:
            Unavailable: No likelihood is fitted for the encoder.
        """
        model = model_of(encoder, RegionRecipe())
        if model is None:
            raise Unavailable(f"No likelihood is fitted for {encoder.name}.")
        judged = JUDGED[self.kind](data, encoder, context.cache)
        weights = np.array(model.pointed if self.kind == "pointed" else model.named)
        likelihoods = 1 / (1 + np.exp(-judged.evidence @ weights))
        builder = self.cells(data, encoder, method=DEFAULT.way, n=len(judged.images))
        measures = {
            "calibration error": calibration_error,
            "likely results that hold it": precision_above(model.likely),
            "holding results called likely": recall_above(model.likely),
        }
        skill = image_interval(brier_skill, likelihoods, judged.holds, judged.images)
        cells = [builder.using(unit="", scale=1).value("Brier skill", skill)]
        cells += [
            builder.value(name, image_interval(measure, likelihoods, judged.holds, judged.images))
            for name, measure in measures.items()
        ]
        rate = 100 * float(judged.holds.mean())
        return [*cells, builder.value(f"holding among the first {K}", rate)]


EXPERIMENTS = (
    Likelihood(
        "likelihood-pointed", "How likely results hold what was pointed at, against the truth",
        ("playroom-things", "coco_small", "voc12_part"), ("mini",),
    ),
    Likelihood(
        "likelihood-named", "The same for names, without any text of the pictures",
        ("playroom-things", "coco_small"), ("mini",), kind="named",
    ),
)  # fmt: skip
