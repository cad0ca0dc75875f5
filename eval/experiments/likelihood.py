"""How likely results hold the thing: what likelihoods are fitted from, and how well they agree with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foir import image_text
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.regions.recipe import RegionRecipe
from foir.search.likelihood import Kind, Network, Spread, model_of

from ..datasets.base import Dataset
from ..metrics.calibration import brier_skill, calibration_error, image_interval, precision_above, recall_above
from ..report.results import Cell
from .region_ranking import DEFAULT, RegionRanking
from .results_cache import ResultsCache
from .specs import ExperimentSpec, RunContext
from .word_ranking import WordRanking, names_of

K = 24  # results of a query, as many as the page shows


@dataclass(frozen=True, eq=False)
class Judged:
    """The first results of some queries.

    Attributes:
        evidence: From `foir.search.likelihood.Spread.evidence`, [queries, K, ...].
        holds: Whether the picture holds the thing, bool [queries, K].
        images: What intervals are drawn over, int [queries]: pictures that are pointed at, or names.
    """

    evidence: np.ndarray
    holds: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Searches:
    """Queries on a gallery.

    Attributes:
        scores: Of each picture, float32 [queries, gallery]; -inf for a query's own.
        best: The score of its best region, float32 [queries, gallery].
        holds: Whether it holds the thing, bool [queries, gallery].
        images: See `Judged`.
    """

    scores: np.ndarray
    best: np.ndarray
    holds: np.ndarray
    images: np.ndarray

    def first(self, kept: float = 1.0, seed: int = 0, least: float = 1.0) -> Judged:
        """The first `K` results of each query.

        Args:
            kept: Share of the pictures which hold the thing, at least one, that the gallery keeps: as if it were rarer.
            seed: Of the choice.
            least: The smallest share of all pictures that is searched; how many are drawn for each query.
        """
        rng, evidence, holds = np.random.default_rng(seed), [], []
        for scores, best, holding in zip(self.scores, self.best, self.holds, strict=True):
            possible, share = np.isfinite(scores), rng.uniform(least, 1)
            holders, others = (rng.permutation(np.flatnonzero(possible & which)) for which in (holding, ~holding))
            holders = holders[: max(1, round(kept * share * len(holders)))]
            rows = np.sort(np.concatenate([holders, others[: max(K, round(share * len(others)))]]))
            first = rows[np.argsort(-scores[rows], kind="stable")[:K]]
            evidence.append(Spread.of(best[rows]).evidence(best[first]))
            holds.append(holding[first])
        return Judged(np.stack(evidence), np.stack(holds), self.images)


def pointed(data: Dataset, encoder: Encoder, results: ResultsCache) -> Searches:
    """Things that are pointed at, in the default way."""
    ranking = RegionRanking.of_things(data, encoder, results, None)
    data = ranking.data
    holds = data.labels[:, ranking.categories].T
    return Searches(ranking.scores(DEFAULT), ranking.best_regions(DEFAULT), holds, ranking.images)


def named(data: Dataset, encoder: Encoder, results: ResultsCache) -> Searches:
    """Names, by vectors of regions and of whole pictures, without any text of a picture.

    Raises:
        Unavailable: The data has no names.
    """
    names = names_of(data)
    if not names:
        raise Unavailable(f"{data.name} has no names.")
    texts = image_text.load(encoder).encode_texts([name for name, _ in names]).vectors
    ranking = WordRanking.of(data, encoder, results)
    scores, best = ranking.scores(texts), ranking.best_regions(texts)
    holds = data.labels[:, [column for _, column in names]].T
    return Searches(scores, best, holds, np.arange(len(names)))


SEARCHES: dict[Kind, Callable[[Dataset, Encoder, ResultsCache], Searches]] = {"pointed": pointed, "named": named}


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
        judged = SEARCHES[self.kind](data, encoder, context.cache).first()
        network = model.pointed if self.kind == "pointed" else model.named
        likelihoods = likelihoods_of(network, judged)
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


def likelihoods_of(network: Network, judged: Judged) -> np.ndarray:
    """Of all results, float64 [queries, K]."""
    flat = judged.evidence.reshape(-1, judged.evidence.shape[-1])
    return network(flat).reshape(judged.holds.shape)


EXPERIMENTS = (
    Likelihood(
        "likelihood-pointed", "How likely results hold what was pointed at, against the truth",
        ("playroom-things-instances", "coco_small", "voc12_part"), ("mini",),
    ),
    Likelihood(
        "likelihood-named", "The same for names, without any text of the pictures",
        ("playroom-things-instances", "coco_small"), ("mini",), kind="named",
    ),
)  # fmt: skip
