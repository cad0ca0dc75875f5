"""Exact nearest neighbours by cosine over the shards of a space."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from foir.index.mmap import gather, is_large, iter_shards
from foir.ranking.topk import TopK, merge_top_k, top_k

BLOCK = 4096  # rows turned to float32 at a time; larger copies cost more in fresh memory than in arithmetic
ROUNDING = 1e-3  # largest error of a scan in half precision: of the rounded query, and of the sum
MAX_CANDIDATES = 65_536  # with more of them the rows are too similar for a scan in half precision
ONE_THREAD = 16_384  # rows; fewer are scanned faster by one thread

# Tensors of read-only maps are never written to here.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


def search(shards: Sequence[np.ndarray], queries: np.ndarray, k: int) -> TopK:
    """The k rows with the largest dot product, exactly.

    One query is scanned in the rows' own precision, 4 bytes a row, and its candidates are scored again in float32;
    several queries are a matrix product.

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


def scan(shards: Sequence[np.ndarray], query: np.ndarray) -> np.ndarray:
    """The dot product of every row with one query [dim] in the precision that rows are stored in, float32 [n].

    From float16 it is off by at most `ROUNDING`, and faster than `scores`: the rows are not copied, and many shards are
    shared out among threads. At least one shard is needed.
    """
    import torch

    def multiply(shard: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(np.asarray(shard))
        return np.asarray(torch.mv(rows, torch.from_numpy(query).to(rows.dtype)).float().numpy())

    threads = min(torch.get_num_threads(), len(shards))
    if threads == 1 or sum(map(len, shards)) < ONE_THREAD or is_large(shards):
        return np.concatenate([multiply(shard) for shard in iter_shards(shards)])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(multiply, shards)))


def _candidates(shards: Sequence[np.ndarray], query: np.ndarray, k: int) -> np.ndarray | None:
    """Rows that include the true top k, ascending; None where half precision cannot separate them from the rest."""
    if sum(map(len, shards)) <= k:
        return None
    estimates = scan(shards, query)
    if not np.isfinite(estimates).all():
        return None
    threshold = np.partition(estimates, -k)[-k] - 2 * ROUNDING  # the smallest estimate that a row of the top k can have
    rows = np.flatnonzero(estimates >= threshold)
    return rows if len(rows) <= k + MAX_CANDIDATES else None
