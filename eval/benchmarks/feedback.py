"""Relevance feedback on a large index: what it costs beside a plain search and beside its own bare matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from foir.ranking import exact
from foir.ranking.feedback import Judgements, feedback_rules, relevance

ROWS, DIM, K = 118_287, 768, 100  # COCO's train2017 in a base model's width
LIKED = DISLIKED = 20
ROUNDS = 7


def main() -> str:
    """Measure on random unit vectors, kept as an index keeps them; returns a Markdown table."""
    lines = [
        f"{ROWS} x {DIM} random unit vectors, {LIKED} likes and {DISLIKED} dislikes, best {K}; medians of {ROUNDS}.",
        "",
        "| kept as | step | ms | of the plain search | of the bare product |",
        "|---|---|---|---|---|",
    ]
    for dtype in ("float32", "float16"):
        times = measure(dtype)
        plain, bare = times["plain exact search of one vector"], times["bare matrix product"]
        lines += [
            f"| {dtype} | {step} | {1e3 * spent:.0f} | {spent / plain:.1f} | {spent / bare:.2f} |"
            for step, spent in times.items()
        ]
    return "\n".join(lines)


def measure(dtype: str, rows: int = ROWS) -> dict[str, float]:
    """Median seconds of each step."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((rows, DIM), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    shards = [matrix.astype(dtype)]
    liked, disliked, query = matrix[1 : 1 + LIKED], matrix[50 : 50 + DISLIKED], matrix[0]
    judged = Judgements(liked, disliked, query)
    vectors = np.concatenate([query[None], liked, disliked]).T.copy()

    def product() -> list[np.ndarray]:
        return [exact.as_float32(part) @ vectors for part in exact.row_blocks(shards)]

    def ranked(rule: str) -> exact.TopK:
        return exact.top_k(relevance(shards, judged, rule), K)

    steps: dict[str, Callable[[], object]] = {
        "plain exact search of one vector": lambda: exact.search(shards, query[None], K),
        "bare matrix product": product,
        **{f"feedback, {rule}": partial(ranked, rule) for rule in feedback_rules()},
    }
    times: dict[str, list[float]] = {step: [] for step in steps}
    for _ in range(ROUNDS):
        for step, once in steps.items():
            started = time.perf_counter()
            once()
            times[step].append(time.perf_counter() - started)
    return {step: float(np.median(spent)) for step, spent in times.items()}
