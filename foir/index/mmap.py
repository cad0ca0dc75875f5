"""Memory-mapped matrices in shards: passes over more bytes than may stay in memory, and single rows."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

RESIDENT = 2**30  # bytes of matrices that a pass may leave in this process's memory


def iter_shards(shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The shards in order; pages of a large matrix are dropped when the next shard is asked for."""
    drops = is_large(shards)
    for shard in shards:
        yield shard
        if drops:
            drop_pages(shard)


def is_large(shards: Sequence[np.ndarray]) -> bool:
    """Whether the shards are too large to stay in memory."""
    return sum(shard.nbytes for shard in shards) > RESIDENT


def drop_pages(array: np.ndarray) -> None:
    """Drop the resident pages of a mapped file; arrays in plain memory are left alone."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):  # not on Windows
        base.madvise(mmap.MADV_DONTNEED)


def gather(shards: Sequence[np.ndarray], rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rows of a matrix in shards, float32 [n, ...]."""
    ends = np.cumsum([len(shard) for shard in shards])
    values = np.empty((len(rows), *shards[0].shape[1:]), np.float32)
    for place, row in enumerate(rows):
        at = int(np.searchsorted(ends, row, side="right"))
        values[place] = shards[at][row - (ends[at - 1] if at else 0)]
    if is_large(shards):
        for at in set(np.searchsorted(ends, rows, side="right").tolist()):
            drop_pages(shards[at])  # a system maps far more around a row than the row
    return values
