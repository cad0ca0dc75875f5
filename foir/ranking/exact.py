"""Exact nearest neighbours by cosine over the shards of a space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from foir.index import mmap

BLOCK = 4096  # rows turned to float32 at a time; larger copies cost more in fresh memory than in arithmetic
PATH = "exact scan"
SPARE = 32  # candidates taken of each shard beyond k
ROUNDING = 1e-3  # how far a scan in half precision can be off: a unit query's rounding, and the sum's
MANY = 65_536  # candidates; more of them are too much alike for a scan in half precision
SMALL = 16_384  # rows; a smaller shard is scanned faster by one thread than shared among all


@dataclass(frozen=True, eq=False)
class TopK:
    """The best rows of each query, best first; equal scores in row order. Both [n, k], k at most the row count."""

    scores: np.ndarray
    rows: np.ndarray


def search(shards: Sequence[np.ndarray], queries: np.ndarray, k: int) -> TopK:
    """The k rows with the largest dot product.

    One query is scanned by USearch and its candidates are scored again in float32; several are a matrix product.

    Args:
        shards: Unit vectors, float16 or float32 [n_i, dim], whose rows count on from one shard to the next.
        queries: Unit vectors, float32 [n, dim].
        k: How many.
    """
    if len(queries) == 1 and (rows := _candidates(shards, queries[0], k)) is not None:
        top = top_k(gather(shards, rows) @ queries[0], k)
        return TopK(top.scores, rows[top.rows])
    return merge_top_k((as_float32(block) @ queries.T for block in row_blocks(shards)), len(queries), k)


def scores(shards: Sequence[np.ndarray], query: np.ndarray) -> np.ndarray:
    """The dot product of every row with one query [dim], float32 [n]."""
    return np.concatenate([as_float32(block) @ query for block in row_blocks(shards)])


def as_float32(block: np.ndarray) -> np.ndarray:
    """A block in float32, the block itself where it is already; torch turns halves several times faster than NumPy."""
    if block.dtype != np.float16:
        return block.astype(np.float32, copy=False)
    import torch

    return torch.from_numpy(np.array(block)).float().numpy()


def gather(shards: Sequence[np.ndarray], rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Some rows, whichever shards they lie in, float32 [n, ...]: vectors, or what else is kept of each picture."""
    ends = np.cumsum([len(shard) for shard in shards])
    taken = np.empty((len(rows), *shards[0].shape[1:]), np.float32)
    for place, row in enumerate(rows):
        at = int(np.searchsorted(ends, row, side="right"))
        taken[place] = shards[at][row - (ends[at - 1] if at else 0)]
    if mmap.is_large(shards):
        for at in set(np.searchsorted(ends, rows, side="right").tolist()):
            mmap.drop_pages(shards[at])  # a system maps far more around a row than the row
    return taken


def top_k(values: np.ndarray, k: int) -> TopK:
    """The k largest of one query's scores [n]."""
    return merge_top_k([values[:, None]], 1, k)


def zscore_fuse(parts: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """The weighted sum of standard scores, float32 [n], of several wishes' raw scores [n].

    What is not wished for (a weight below 0) counts where it is more than usual; that a picture shows even less of it
    than others do makes it no better.
    """
    total = np.zeros(len(parts[0][1]), np.float32)
    for weight, scores in parts:
        spread = float(scores.std())
        if spread > 0:
            standard = (scores - scores.mean()) / spread
            total += weight * (np.maximum(standard, 0) if weight < 0 else standard)
    return total


def row_blocks(shards: Sequence[np.ndarray], rows: int = BLOCK) -> Iterable[np.ndarray]:
    """The shards in pieces of at most `rows` rows."""
    for shard in mmap.iter_shards(shards):
        for start in range(0, len(shard), rows):
            yield shard[start : start + rows]


def merge_top_k(parts: Iterable[np.ndarray], queries: int, k: int) -> TopK:
    """Running top-k over score blocks [rows, queries] that count on from one to the next; memory stays one block's."""
    scores, rows = np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    start = 0
    for part in parts:
        mine = part.T
        at = np.arange(start, start + mine.shape[1])
        start += mine.shape[1]
        keep = _best(mine, k)
        scores = np.concatenate([scores, np.take_along_axis(mine, keep, 1)], 1)
        rows = np.concatenate([rows, at[keep]], 1)
        order = np.lexsort((rows, -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return TopK(scores, rows)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of each row's k largest values [n, <= k]; of equal ones the first."""
    count = scores.shape[1]
    if count <= k:
        return np.broadcast_to(np.arange(count), scores.shape)
    least = np.partition(scores, count - k, axis=1)[:, [count - k]]
    above, level = scores > least, scores == least
    keep = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(1, keepdims=True)))
    return np.nonzero(keep)[1].reshape(-1, k)


def _candidates(shards: Sequence[np.ndarray], query: np.ndarray, k: int) -> np.ndarray | None:
    """Rows that hold the best k for certain, ascending; None where a scan cannot tell them from too many others.

    However many shards there are, no more than `MANY` candidates are remembered beside those of one shard.
    """
    from usearch.compiled import MetricKind
    from usearch.index import search

    if sum(map(len, shards)) <= k + SPARE:
        return None
    rows, guesses = np.empty(0, np.int64), np.empty(0, np.float32)
    lost, start = -np.inf, 0
    for shard in mmap.iter_shards(shards):
        count = min(len(shard), k + SPARE)
        threads = 1 if len(shard) < SMALL else 0
        found = search(shard, query.astype(shard.dtype), count, MetricKind.IP, exact=True, threads=threads)
        guess = 1 - found.distances
        if count < len(shard):
            lost = max(lost, float(guess.min()))  # no row that is not among these is guessed better
        likely = guess >= _least(guesses, k)
        rows = np.concatenate([rows, found.keys[likely].astype(np.int64) + start])
        guesses = np.concatenate([guesses, guess[likely]])
        start += len(shard)
        if len(rows) > MANY:
            likely = guesses >= _least(guesses, k)
            rows, guesses = rows[likely], guesses[likely]
            if len(rows) > MANY:
                return None
    likely = guesses >= _least(guesses, k)
    return None if lost >= _least(guesses, k) else np.sort(rows[likely])


def _least(guesses: np.ndarray, k: int) -> float:
    """What a row must be guessed at to be among the best k of those guessed so far."""
    return -np.inf if len(guesses) < k else float(np.partition(guesses, -k)[-k]) - 2 * ROUNDING
