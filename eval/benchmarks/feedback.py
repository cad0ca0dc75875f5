"""The cost of relevance feedback on a large index, beside a plain search and beside its bare matrix product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from foir.ranking import exact
from foir.ranking.feedback import Judgements, feedback_rules, relevance

from ..report.results import markdown_table
from .timing import median_seconds

ROWS, DIM, K = 118_287, 768, 100  # COCO's train2017 with a base model's features
LIKED = DISLIKED = 20
ROUNDS = 7


def main() -> str:
    """Measure on random unit vectors in the dtypes of an index; returns a Markdown table."""
    rows = []
    for dtype in ("float32", "float16"):
        times = measure(dtype)
        plain, bare = times["plain exact search of one vector"], times["bare matrix product"]
        rows += [(dtype, step, f"{1e3 * s:.0f}", f"{s / plain:.1f}", f"{s / bare:.2f}") for step, s in times.items()]
    title = f"{ROWS} x {DIM} random unit vectors, {LIKED} likes and {DISLIKED} dislikes, top {K}; medians of {ROUNDS}."
    columns = ("dtype", "step", "ms", "of the plain search", "of the bare product")
    return "\n".join([title, "", *markdown_table(columns, rows)])


def measure(dtype: str, rows: int = ROWS) -> dict[str, float]:
    """Median seconds of each step."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((rows, DIM), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    shards = [matrix.astype(dtype)]
    liked, disliked, query = matrix[1 : 1 + LIKED], matrix[50 : 50 + DISLIKED], matrix[0]
    judgements = Judgements(liked, disliked, query)
    vectors = np.concatenate([query[None], liked, disliked]).T.copy()

    def rank(rule: str) -> exact.TopK:
        return exact.top_k(relevance(shards, judgements, rule), K)

    steps: dict[str, Callable[[], object]] = {
        "plain exact search of one vector": lambda: exact.search(shards, query[None], K),
        "bare matrix product": lambda: [exact.as_float32(block) @ vectors for block in exact.row_blocks(shards)],
        **{f"feedback, {rule}": partial(rank, rule) for rule in feedback_rules()},
    }
    return median_seconds(steps, ROUNDS)
