"""Exact nearest neighbours by cosine over the shards of a space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from foir.index.mmap import gather, iter_shards
from foir.ranking.topk import TopK, merge_top_k, top_k

BLOCK = 4096  # rows turned to float32 at a time; larger copies cost more in fresh memory than in arithmetic
SPARE = 32  # candidates of each shard beyond k
ROUNDING = 1e-3  # largest error of a scan in half precision: of the rounded query, and of the sum
MAX_CANDIDATES = 65_536  # with more of them the rows are too similar for a scan in half precision
ONE_THREAD = 16_384  # rows; a smaller shard is scanned faster by one thread


def search(shards: Sequence[np.ndarray], queries: np.ndarray, k: int) -> TopK:
    """The k rows with the largest dot product, exactly.

    One query is scanned by USearch in half precision and its candidates are scored again in float32; several queries
    are a matrix product.

    Args:
        shards: Unit vectors, float16 or float32 [n_i, dim]; row numbers continue from shard to shard.
        queries: Unit vectors, float32 [n, dim].
        k: Number of results.
    """
    if len(queries) == 1 and (rows := _candidates(shards, queries[0], k)) is not None:
        top = top_k(gather(shards, rows) @ queries[0], k)
        return TopK(top.scores, rows[top.rows])
    return merge_top_k((as_float32(block) @ queries.T for block in row_blocks(shards)), len(queries), k)


def scores(shards: Sequence[np.ndarray], query: np.ndarray) -> np.ndarray:
    """The dot product of every row with one query [dim], float32 [n]."""
    return np.concatenate([as_float32(block) @ query for block in row_blocks(shards)])


def as_float32(block: np.ndarray) -> np.ndarray:
    """A block in float32; torch converts halves several times faster than NumPy."""
    if block.dtype != np.float16:
        return block.astype(np.float32, copy=False)
    import torch

    return torch.from_numpy(np.array(block)).float().numpy()


def row_blocks(shards: Sequence[np.ndarray], rows: int = BLOCK) -> Iterable[np.ndarray]:
    """The shards in blocks of at most `rows` rows."""
    for shard in iter_shards(shards):
        for start in range(0, len(shard), rows):
            yield shard[start : start + rows]


def _candidates(shards: Sequence[np.ndarray], query: np.ndarray, k: int) -> np.ndarray | None:
    """Rows that include the true top k, ascending; None where half precision cannot separate them from the rest.

    Holds at most `MAX_CANDIDATES` candidates beside those of one shard.
    """
    from usearch.compiled import MetricKind
    from usearch.index import search

    if sum(map(len, shards)) <= k + SPARE:
        return None
    rows, estimates = np.empty(0, np.int64), np.empty(0, np.float32)
    best_dropped, start = -np.inf, 0
    for shard in iter_shards(shards):
        count = min(len(shard), k + SPARE)
        threads = 1 if len(shard) < ONE_THREAD else 0
        matches = search(shard, query.astype(shard.dtype), count, MetricKind.IP, exact=True, threads=threads)
        estimate = 1 - matches.distances
        if count < len(shard):
            best_dropped = max(best_dropped, float(estimate.min()))  # no dropped row has a larger estimate
        likely = estimate >= _threshold(estimates, k)
        rows = np.concatenate([rows, matches.keys[likely].astype(np.int64) + start])
        estimates = np.concatenate([estimates, estimate[likely]])
        start += len(shard)
        if len(rows) > MAX_CANDIDATES:
            likely = estimates >= _threshold(estimates, k)
            rows, estimates = rows[likely], estimates[likely]
            if len(rows) > MAX_CANDIDATES:
                return None
    likely = estimates >= _threshold(estimates, k)
    return None if best_dropped >= _threshold(estimates, k) else np.sort(rows[likely])


def _threshold(estimates: np.ndarray, k: int) -> float:
    """The smallest estimate that a row of the top k can have."""
    return -np.inf if len(estimates) < k else float(np.partition(estimates, -k)[-k]) - 2 * ROUNDING
