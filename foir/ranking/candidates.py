"""Which images of an index are ranked: all of them, or those that are near the query in a database or a huge index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from foir.index import Index
from foir.index.protocol import DatabaseIndex, IndexLike
from foir.ranking import exact
from foir.ranking.regions import best_scores
from foir.ranking.topk import top_k

MAX_HEAD_CACHE = 2_000_000  # images whose head cache is scanned whole


def candidates(
    index: IndexLike,
    vectors: Mapping[str, Sequence[np.ndarray]],
    count: int,
    *,
    things: Sequence[np.ndarray] | None = None,
    ids: Sequence[int] = (),
    head_cache: bool = False,
    filters: Mapping[str, str | int] | None = None,
) -> Index:
    """An index in memory or in files that holds whatever can be a result.

    Args:
        index: What is searched.
        vectors: By space, the unit vectors to search near.
        count: Number of images near each of them.
        things: Region vectors of each thing to search near, float32 [n, dim] each; None where regions do not count.
        ids: Images that have to be there too.
        head_cache: The head cache is needed.
        filters: Fields of images and their values; rows of a file-based index are filtered later
            (`Index.excluded_mask`).
    """
    if not isinstance(index, Index):
        database = cast(DatabaseIndex, index)
        return database.candidates(vectors, count, things=things, ids=ids, head_cache=head_cache, filters=filters)
    if not head_cache or len(index) <= MAX_HEAD_CACHE:
        return index
    rows = {index.row(id) for id in ids}
    for space, queries in vectors.items():
        for query in queries:
            rows |= set(exact.search(index.space(space).shards, query[None], count).rows[0].tolist())
    for thing in things or ():
        if index.regions is not None:
            rows |= set(top_k(best_scores(index.regions, thing), count).rows[0].tolist())
    return index.subset(sorted(rows))
