"""Relevance feedback by a simulated user: a first search, judgements on its top results, and the gallery ranked again.

The user searches for one label of the query image and likes exactly the results that have it. The protocol `full` ranks
everything again, so that liked results come first. The protocol `residual` removes the largest number of judged results
from the ranking and from the relevant images, the same for every size, and drops queries without relevant images then.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.image_text import ImageTextModel
from foir.index.mmap import gather
from foir.ranking import exact
from foir.ranking.feedback import Judgements, relevance

from ..datasets.base import Dataset, Query
from ..metrics.retrieval import Mean, image_mean
from ..report.results import Cell, CellBuilder
from .gallery import cache_key, encode_gallery
from .query_features import NumberedQueries, query_features, select_queries
from .query_prompts import count_oddities, no_query, write_oddities
from .specs import ImageTextSpec, Row, RunContext

RULE = "nn_ratio"
OWN_OPTIONS = ("rule", "words")  # options of a row that its method does not know
PROTOCOLS = ("full", "residual")
MIN_RELEVANT = 3  # gallery images that must show both categories of a query with text


@dataclass(frozen=True)
class RelevanceFeedback(ImageTextSpec):
    """Ranking again after a simulated user judged the first results.

    Attributes:
        rows: Method of the first search; the option "rule" names the feedback rule
            (`foir.ranking.feedback.feedback_rules`).
        sizes: Numbers of judged results; 0 first.
        with_text: The first search also has a text for a second category, and only images with both are relevant;
            needs `category_words`.
        ks: Depths of Recall@K, the share of queries with a relevant image among the first K.
    """

    rows: tuple[Row, ...]
    sizes: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    with_text: bool = False
    ks: tuple[int, ...] = (1, 2, 4, 8)

    def measure(self, data: Dataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """MAP@R and Recall@K for each row, size and protocol, with the differences from no feedback.

        Raises:
            Unavailable: The model has no image encoder that takes prompts, or the data has no words for its categories
                or no usable query.
        """
        if model.encoder is None:
            raise Unavailable(f"{model.name} has no encoder that takes prompts.")
        queries = select_queries(data, context.limit)
        second: dict[int, tuple[int, str]] = {}
        if self.with_text:
            second = {i: choice for i, q in queries if (choice := _second_category(data, i, q)) is not None}
            queries = [(i, q) for i, q in queries if i in second]
            if not queries:
                raise Unavailable(f"No gallery image of {data.name} shows a second object beside a query's.")
        shards = encode_gallery(model.encoder, data, context.cache).shards
        relevant = data.labels[:, [query.category for _, query in queries]].T.copy()
        texts: np.ndarray | None = None
        if second:
            relevant &= data.labels[:, [second[i][0] for i, _ in queries]].T
            texts = model.encode_texts([second[i][1] for i, _ in queries]).vectors
        key = [*cache_key(model.encoder, data), "feedback", _digest(queries)]
        builder = self.cells(data, model)
        user = _User(shards, relevant, np.array([query.image for _, query in queries]), data.leave_one_out)
        cells: list[Cell] = []
        for row in self.rows:
            first = Row(row.method, {name: value for name, value in row.options.items() if name not in OWN_OPTIONS})
            compute = partial(_query_vectors, data, model.encoder, first, queries)
            found = context.cache.get([*key, first.method, first.options], compute)
            vectors, oddities = found["vectors"], count_oddities(found["oddities"])
            if row == self.rows[0]:
                write_oddities(data.name, oddities)
            if texts is not None and row.options.get("words", True):
                vectors = vectors + texts
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            rule = row.options.get("rule", RULE)
            scores = user.judge(self, vectors, rule, desc=f"{row.method} {rule}")
            cells += _row_cells(builder.using(oddities=oddities), row, user, scores, len(vectors))
        return cells


@dataclass
class _Scores:
    """Metrics of a row's queries.

    Attributes:
        metrics: The value of each query, by protocol and size, then by metric.
        seconds: Wall time of all rankings, by size.
        counted: The queries that have relevant images, by protocol.
    """

    metrics: dict[tuple[str, int], dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    counted: dict[str, list[int]] = field(default_factory=lambda: {protocol: [] for protocol in PROTOCOLS})


@dataclass(frozen=True)
class _User:
    """A user who likes exactly the relevant results.

    Attributes:
        shards: The gallery's features.
        relevant: bool [queries, gallery].
        images: Image of each query, int [queries].
        leave_one_out: A query's own image is not part of its gallery.
    """

    shards: Sequence[np.ndarray]
    relevant: np.ndarray
    images: np.ndarray
    leave_one_out: bool

    def judge(self, experiment: RelevanceFeedback, vectors: np.ndarray, rule: str, desc: str) -> _Scores:
        """Search with each vector, judge, rank again, and measure."""
        scores = _Scores(seconds=dict.fromkeys(experiment.sizes, 0.0))
        for i, query in enumerate(tqdm(vectors, desc=desc)):
            if not np.isfinite(query).all():  # the query is left out
                continue
            excluded = [int(self.images[i])] if self.leave_one_out else []
            plain = exact.scores(self.shards, query)
            plain[excluded] = -np.inf
            top = np.argsort(-plain, kind="stable")[: max(experiment.sizes)]
            removed = {"full": excluded, "residual": [*excluded, *top.tolist()]}
            protocols = [p for p in PROTOCOLS if np.delete(self.relevant[i], removed[p]).any()]
            for protocol in protocols:
                scores.counted[protocol].append(i)
            for size in experiment.sizes:
                started = time.perf_counter()
                ranked = self._rank_again(i, query, top[:size], rule) if size else plain
                scores.seconds[size] += time.perf_counter() - started
                for protocol in protocols:
                    remaining = np.delete(np.arange(len(plain)), removed[protocol])
                    order = remaining[np.argsort(-ranked[remaining], kind="stable")]
                    values = scores.metrics.setdefault((protocol, size), {})
                    for metric, value in ranking_metrics(self.relevant[i, order], experiment.ks).items():
                        values.setdefault(metric, []).append(value)
        return scores

    def _rank_again(self, i: int, query: np.ndarray, judged: np.ndarray, rule: str) -> np.ndarray:
        liked = self.relevant[i, judged]
        judgements = Judgements(gather(self.shards, judged[liked]), gather(self.shards, judged[~liked]), query)
        return relevance(self.shards, judgements, rule)


def _row_cells(builder: CellBuilder, row: Row, user: _User, scores: _Scores, queries: int) -> list[Cell]:
    cells = []
    bases: dict[tuple[str, str], Mean] = {}
    for protocol, size in sorted(scores.metrics):
        counted = scores.counted[protocol]
        cell = builder.using(
            method=row.method,
            options={"rule": RULE, **row.options, "protocol": protocol, "feedback": size},
            n=len(counted),
            seconds=round(scores.seconds[size], 3),
        )
        for metric, values in scores.metrics[protocol, size].items():
            mean = image_mean(np.array(values), user.images[counted])
            base = bases.setdefault((protocol, metric), mean)
            cells += cell.compared(metric, mean, {} if base is mean else {"no feedback": base})
        if protocol == "full":
            cells.append(cell.using(unit="ms").value("ms per query", 1e3 * scores.seconds[size] / queries))
    return cells


def _digest(queries: NumberedQueries) -> str:
    """Digest of a selection of queries."""
    return hashlib.sha256(np.array([number for number, _ in queries]).tobytes()).hexdigest()[:16]


def ranking_metrics(relevant: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """MAP@R and Recall@K of one ranking, bool [n]; R is the number of relevant images, at least one."""
    total = int(relevant.sum())
    first = relevant[:total]
    precision = np.cumsum(first) / np.arange(1, total + 1)
    return {"MAP@R": float((precision * first).sum() / total)} | {f"R@{k}": float(relevant[:k].any()) for k in ks}


def _query_vectors(data: Dataset, encoder: Encoder, row: Row, queries: NumberedQueries) -> dict[str, np.ndarray]:
    """The first search's query vectors and the queries' oddities, in the order of `queries`; NaN for one left out."""
    order = sorted(range(len(queries)), key=lambda i: queries[i][1].image)
    features = query_features(data, encoder, [row], [queries[i] for i in order])[row]
    if not features.vectors:
        raise no_query(data)
    vectors = np.full((len(queries), len(features.vectors[0])), np.nan, np.float32)
    vectors[[order[place] for place in features.queries]] = features.vectors
    oddities = np.zeros(len(queries), int)
    oddities[order] = features.oddities
    return {"vectors": vectors, "oddities": oddities}


def _second_category(data: Dataset, number: int, query: Query) -> tuple[int, str] | None:
    """Another category that enough gallery images show together with the query's, and a word for it."""
    if not data.category_words:
        raise Unavailable(f"{data.name} has no words for its categories.")
    together = (data.labels & data.labels[:, [query.category]]).sum(0)
    together[query.category] = 0
    choices = np.flatnonzero(together >= MIN_RELEVANT)
    if not len(choices):
        return None
    rng = np.random.default_rng([8, number])
    category = int(rng.choice(choices))
    return category, str(rng.choice(data.category_words[category]))


RULES = ("", "sign_margin", "hard_1nn", "blend", "rocchio", "svm", "logistic")
ROWS = (Row("cbir"), *(Row("phs", {"h_on": 5} | ({"rule": rule} if rule else {})) for rule in RULES))
EXPERIMENTS = (
    RelevanceFeedback(
        "feedback-coco-small", "Likes and dislikes on COCO photos; relevant: one label of the query photo",
        ("coco_small",), ("mini",), ROWS,
    ),
    RelevanceFeedback(
        "feedback-playroom", "Likes and dislikes on held-out playroom scenes; relevant: the category of a small object",
        ("playroom",), ("mini",), ROWS,
    ),
    RelevanceFeedback(
        "feedback-playroom-text", "The same with a text for a second object that must be present too", ("playroom",),
        ("mini",), (Row("phs", {"h_on": 5}), Row("phs", {"h_on": 5, "words": False}), Row("cbir")), with_text=True,
    ),
    RelevanceFeedback(
        "feedback-folders", "Likes and dislikes on a folder of folders; relevant: images of the query's folder",
        ("folders",), ("mini",), (Row("cbir"),),
    ),
)  # fmt: skip
