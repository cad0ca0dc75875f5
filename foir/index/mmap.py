"""Memory-mapped matrices in shards: passes over more bytes than may stay in memory, and single rows."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESIDENT = 2**30  # bytes of matrices that a pass may leave in this process's memory, where more is not known to be free
FREE_SHARE = 0.5  # of the memory that is available


def iter_shards(shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The shards in order; pages of a large matrix are dropped when the next shard is asked for."""
    drops = is_large(shards)
    for shard in shards:
        yield shard
        if drops:
            drop_pages(shard)


def is_large(shards: Sequence[np.ndarray]) -> bool:
    """Whether the shards are too large to stay in memory."""
    size = sum(shard.nbytes for shard in shards)
    return size > RESIDENT and size > FREE_SHARE * _available_memory()


def _available_memory() -> int:
    """Bytes that the system could give without swapping; 0 where it does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:  # Linux
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0


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
