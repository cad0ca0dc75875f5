"""The best rows of scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TopK:
    """The best rows of each query, best first; equal scores in row order. Both [n, k], k at most the row count."""

    scores: np.ndarray
    rows: np.ndarray


def top_k(values: np.ndarray, k: int) -> TopK:
    """The k largest scores [n] of one query."""
    return merge_top_k([values[:, None]], 1, k)


def merge_top_k(parts: Iterable[np.ndarray], queries: int, k: int) -> TopK:
    """Running top-k over score blocks [rows, queries]; holds one block in memory."""
    scores, rows = np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    start = 0
    for part in parts:
        block = part.T
        block_rows = np.arange(start, start + block.shape[1])
        start += block.shape[1]
        columns = _top_columns(block, k)
        scores = np.concatenate([scores, np.take_along_axis(block, columns, 1)], 1)
        rows = np.concatenate([rows, block_rows[columns]], 1)
        order = np.lexsort((rows, -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return TopK(scores, rows)


def _top_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of each row's k largest values [n, <= k]; of equal ones the first."""
    count = scores.shape[1]
    if count <= k:
        return np.broadcast_to(np.arange(count), scores.shape)
    least = np.partition(scores, count - k, axis=1)[:, [count - k]]
    above, equal = scores > least, scores == least
    is_top = above | (equal & (np.cumsum(equal, axis=1) <= k - above.sum(1, keepdims=True)))
    return np.nonzero(is_top)[1].reshape(-1, k)
