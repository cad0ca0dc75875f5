"""Relevance feedback by a simulated user: round one, judgements on its first results, the whole gallery ranked again.

The user looks for one label of the query picture and likes exactly the results that have it. `full` ranks everything
again, so that what was liked comes first; `residual` takes the largest number of results that any size shows out of the
ranking and out of what can be found, the same for every size, and leaves out queries that then have nothing to find.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.datasets import Dataset, Query
from eval.experiments.gallery import facts, gallery
from eval.experiments.results_cache import Store
from eval.experiments.runner import look
from eval.experiments.specs import Feedback, Row
from eval.metrics.retrieval import Mean, image_mean
from eval.report.results import Cell
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.image_text import ImageTextModel
from foir.index.mmap import gather
from foir.ranking import exact
from foir.ranking.feedback import Judgements, relevance

RULE = "nn_ratio"
OURS = ("rule", "words")  # options of a row that its method does not know
PROTOCOLS = ("full", "residual")
BOTH = 3  # pictures of the gallery that must hold both wishes for a worded query to be asked


def run(
    experiment: Feedback, data: Dataset, model: ImageTextModel, store: Store, *, limit: int | None = None
) -> list[Cell]:
    """MAP@R and Recall@K for each row, size and protocol, with the difference that feedback makes.

    Raises:
        Unavailable: The model's pictures are not an encoder's, or the data has no words where they are needed.
    """
    if model.encoder is None:
        raise Unavailable(f"{model.name} is no encoder that pictures are pointed at with.")
    asked = [(i, q) for i, q in enumerate(data.queries) if limit is None or q.picture < limit]
    second: dict[int, tuple[int, str]] = {}
    if experiment.worded:
        second = {i: wish for i, q in asked if (wish := _second(data, i, q)) is not None}
        asked = [(i, q) for i, q in asked if i in second]
    shards = gallery(model.encoder, data, store).shards
    images = np.array([query.picture for _, query in asked])
    wanted = data.labels[:, [query.category for _, query in asked]].T.copy()
    said: np.ndarray | None = None
    if second:
        wanted &= data.labels[:, [second[i][0] for i, _ in asked]].T
        said = model.encode_texts([second[i][1] for i, _ in asked]).vectors
    known = [*facts(model.encoder, data), "feedback", hash_of(asked)]
    cells: list[Cell] = []
    for row in experiment.rows:
        way = Row(row.method, {name: value for name, value in row.options.items() if name not in OURS})
        make = partial(_vectors, data, model.encoder, way, asked)
        queries = store.get([*known, way.method, way.options], make)["vectors"]
        if said is not None and row.options.get("words", True):
            queries = queries + said
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        cells += _row(experiment, data, model, row, shards, queries, wanted, images)
    return cells


def hash_of(asked: Sequence[tuple[int, Query]]) -> str:
    """Tells one choice of queries from another."""
    return hashlib.sha256(np.array([number for number, _ in asked]).tobytes()).hexdigest()[:16]


def _row(
    experiment: Feedback, data: Dataset, model: ImageTextModel, row: Row, shards: Sequence[np.ndarray],
    queries: np.ndarray, wanted: np.ndarray, images: np.ndarray,
) -> list[Cell]:  # fmt: skip
    most = max(experiment.sizes)
    scores: dict[tuple[str, int], dict[str, list[float]]] = {}
    spent: dict[int, float] = {size: 0.0 for size in experiment.sizes}
    counted: dict[str, list[int]] = {protocol: [] for protocol in PROTOCOLS}
    for place, query in enumerate(tqdm(queries, desc=f"{row.method} {row.options.get('rule', RULE)}")):
        own = [int(images[place])] if data.leave_one_out else []
        plain = exact.scores(shards, query)
        plain[own] = -np.inf
        shown = np.argsort(-plain, kind="stable")[:most]
        gone = {"full": own, "residual": [*own, *shown.tolist()]}
        for protocol in PROTOCOLS:
            if np.delete(wanted[place], gone[protocol]).any():
                counted[protocol].append(place)
        for size in experiment.sizes:
            started = time.perf_counter()
            ranked = plain
            if size:
                some = shown[:size]
                right = wanted[place, some]
                opinion = Judgements(gather(shards, some[right]), gather(shards, some[~right]), query)
                ranked = relevance(shards, opinion, row.options.get("rule", RULE))
            spent[size] += time.perf_counter() - started
            for protocol in PROTOCOLS:
                if not counted[protocol] or counted[protocol][-1] != place:
                    continue
                left = np.delete(np.arange(len(plain)), gone[protocol])
                order = left[np.argsort(-ranked[left], kind="stable")]
                found = scores.setdefault((protocol, size), {})
                for metric, value in measures(wanted[place, order], experiment.ks).items():
                    found.setdefault(metric, []).append(value)
    cells = []
    bases: dict[tuple[str, str], Mean] = {}
    for (protocol, size), found in sorted(scores.items(), key=lambda item: (item[0][0], item[0][1])):
        about: dict[str, Any] = {
            "experiment": experiment.name,
            "dataset": data.name,
            "encoder": model.name,
            "method": row.method,
            "options": {"rule": RULE, **row.options, "protocol": protocol, "feedback": size},
            "n": len(counted[protocol]),
            "seconds": round(spent[size], 3),
            "revisions": {"encoder": model.revision, "data": data.digest},
        }
        for metric, each in found.items():
            mean = image_mean(np.array(each), images[counted[protocol]])
            parts = [(metric, mean)]
            base = bases.setdefault((protocol, metric), mean)
            if base is not mean:
                parts.append((f"{metric} minus no feedback", mean.minus(base)))
            for name, part in parts:
                value, low, high = (100 * number for number in (part.value, part.low, part.high))
                cells.append(Cell(**about, metric=name, value=value, low=low, high=high))
        if protocol == "full":
            ms = 1e3 * spent[size] / len(queries)
            cells.append(Cell(**about, metric="ms per query", value=ms, unit="ms"))
    return cells


def measures(relevant: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """MAP@R and Recall@K of one ranking, bool [n]: R is how many there are to find, of which there must be one."""
    total = int(relevant.sum())
    first = relevant[:total]
    precision = np.cumsum(first) / np.arange(1, total + 1)
    return {"MAP@R": float((precision * first).sum() / total)} | {f"R@{k}": float(relevant[:k].any()) for k in ks}


def _vectors(data: Dataset, encoder: Encoder, way: Row, asked: Sequence[tuple[int, Query]]) -> dict[str, np.ndarray]:
    """Round one's query vectors, in the order of `asked`."""
    ordered = sorted(asked, key=lambda numbered: numbered[1].picture)
    made = look(data, encoder, [way], ordered)[way]
    by_number = {ordered[place][0]: vector for place, vector in zip(made.owner, made.vectors, strict=True)}
    return {"vectors": np.stack([by_number[number] for number, _ in asked])}


def _second(data: Dataset, number: int, query: Query) -> tuple[int, str] | None:
    """Another category that enough pictures of the gallery show together with the query's, and words for it."""
    if not data.kinds:
        raise Unavailable(f"{data.name} has no words for its categories.")
    together = (data.labels & data.labels[:, [query.category]]).sum(0)
    together[query.category] = 0
    choices = np.flatnonzero(together >= BOTH)
    if not len(choices):
        return None
    rng = np.random.default_rng([8, number])
    kind = int(rng.choice(choices))
    return kind, str(rng.choice(data.kinds[kind]))
