"""Likes and dislikes on region search: a simulated user judges the first results, and the gallery is ranked again.

The user likes exactly the results that hold the category that was pointed at. The most results that are judged are left
out of every ranking and of the relevant pictures (the residual protocol), so that no size gains by what it was told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.ranking.feedback import RULE, Judgements, move, relevance
from foir.ranking.fusion import Part, zscore_fuse
from foir.search.query import CONTEXT, FEEDBACK_CONTEXT, METHOD

from ..datasets.base import Dataset
from ..metrics.retrieval import image_mean
from ..report.results import Cell
from .feedback import ranking_metrics
from .region_ranking import DEFAULT, RegionRanking
from .specs import ExperimentSpec, RunContext

WORSE = 0.01  # loss of MAP@R from which a query counts as worse


@dataclass(frozen=True)
class RegionFeedback(ExperimentSpec):
    """Ranking again after judgements, in the default way of pointing.

    Attributes:
        rules: Of `foir.ranking.feedback.feedback_rules`; the default one moves regions and whole pictures.
        sizes: Numbers of judged results.
    """

    rules: tuple[str, ...] = (RULE, "nn_ratio", "blend")
    sizes: tuple[int, ...] = (1, 2, 3, 5, 10, 20)

    def measure(self, data: Dataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """MAP@R of each rule and size, the gain over no feedback, and the share of queries that lose."""
        user = _User.of(RegionRanking.of_things(data, encoder, context.cache, context.limit))
        before, kept = user.before(max(self.sizes))
        images = user.ranking.images[kept]
        builder, cells = self.cells(data, encoder, n=len(kept)), []
        plain = image_mean(before, images)
        cells.append(builder.using(method=DEFAULT.way, options={"feedback": 0}).value("MAP@R", plain))
        for rule in self.rules:
            for size in self.sizes:
                started = time.perf_counter()
                after = np.array([user.judge(int(i), size, rule, max(self.sizes)) for i in tqdm(kept, rule)])
                row = builder.using(method=DEFAULT.way, options={"rule": rule, "feedback": size})
                row = row.using(seconds=round(time.perf_counter() - started, 3))
                cells += row.compared("MAP@R", image_mean(after, images), {"no feedback": plain})
                worse = image_mean(after < before - WORSE, images)
                cells.append(row.value("queries that lose more than a point", worse))
        return cells


@dataclass(frozen=True, eq=False)
class _User:
    """A user who likes exactly the results that hold the category.

    Attributes:
        ranking: Of the gallery.
        scores: Of each picture without feedback, [queries, gallery].
        asked: Region vector of each thing, [queries, dim].
        vectors: Region vectors, [m, dim].
        starts: Where each picture's begin, [gallery].
    """

    ranking: RegionRanking
    scores: np.ndarray
    asked: np.ndarray
    vectors: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, ranking: RegionRanking) -> _User:
        return cls(ranking, ranking.scores(DEFAULT), ranking.asked(DEFAULT), *ranking.regions(DEFAULT))

    def before(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """MAP@R without feedback of the queries that have relevant pictures left, and their numbers."""
        values = {i: self._measure(i, self.scores[i], most) for i in range(len(self.scores))}
        kept = [i for i, value in values.items() if value is not None]
        return np.array([values[i] for i in kept]), np.array(kept, int)

    def judge(self, i: int, size: int, rule: str, most: int) -> float:
        """MAP@R of a query after its first results were judged."""
        first = np.argsort(-self.scores[i], kind="stable")[:size]
        holds = self._holds(i)[first]
        liked, disliked = first[holds], first[~holds]
        data, plain = self.ranking.data, self.ranking.plain
        asked = self.asked[i][None]
        if rule == RULE:
            asked = move(asked, self._meant(i, liked), self._meant(i, disliked))
        best = np.maximum.reduceat(self.vectors @ asked[0], self.starts)
        judged = Judgements(plain[liked], plain[disliked], self.ranking.things[METHOD][i])
        context = CONTEXT if rule == RULE else FEEDBACK_CONTEXT
        scores = zscore_fuse([Part(1 - context, best), Part(context, relevance([plain], judged, rule))])
        if data.leave_one_out:
            scores[self.ranking.images[i]] = -np.inf
        value = self._measure(i, scores, most)
        if value is None:
            raise ValueError("only queries with relevant pictures left are judged")
        return value

    def _holds(self, i: int) -> np.ndarray:
        return np.asarray(self.ranking.data.labels[:, self.ranking.categories[i]])

    def _meant(self, i: int, rows: np.ndarray) -> np.ndarray:
        """The region of each picture that is most similar to the thing, [n, dim]."""
        ends = np.append(self.starts[1:], len(self.vectors))
        own = [self.vectors[self.starts[row] : ends[row]] for row in rows.tolist()]
        found = [each[int((each @ self.asked[i]).argmax())] for each in own]
        return np.array(found, np.float32).reshape(-1, self.vectors.shape[1])

    def _measure(self, i: int, scores: np.ndarray, most: int) -> float | None:
        """MAP@R over the pictures that no size judges; None where none of them is relevant."""
        removed = np.argsort(-self.scores[i], kind="stable")[:most]
        left = np.setdiff1d(np.flatnonzero(np.isfinite(scores)), removed)
        relevant = self._holds(i)[left]
        if not relevant.any():
            return None
        return ranking_metrics(relevant[np.argsort(-scores[left], kind="stable")], ())["MAP@R"]


EXPERIMENTS = (
    RegionFeedback(
        "feedback-regions", "Likes and dislikes on what was pointed at, by regions and by whole pictures",
        ("coco_small", "playroom-things"), ("mini",),
    ),
    RegionFeedback(
        "feedback-regions-dev", "The same on the sets that the weights are chosen on",
        ("voc12_part_dev", "playroom-dev"), ("mini",),
    ),
)  # fmt: skip
