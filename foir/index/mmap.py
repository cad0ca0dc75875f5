"""Memory-mapped matrices: passing over ones that are larger than what may stay in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

RESIDENT = 2**30  # bytes of matrices that a pass may leave in this process's memory


def iter_shards(shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The shards, one after the other; of many the pages of each are given back when the next one is asked for."""
    much = is_large(shards)
    for shard in shards:
        yield shard
        if much:
            drop_pages(shard)


def is_large(shards: Sequence[np.ndarray]) -> bool:
    """Whether they are too large to stay in memory."""
    return sum(shard.nbytes for shard in shards) > RESIDENT


def drop_pages(array: np.ndarray) -> None:
    """Give back the pages of a mapped file; the system keeps them as long as it has room. Others' memory stays."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
