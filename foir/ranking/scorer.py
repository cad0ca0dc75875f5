"""Scores of an index's images against one query feature, plain or under the heads that the query selected."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from foir.encoders.base import Encoder, Features
from foir.index import Space
from foir.index.mmap import gather
from foir.ranking import exact, head_cache
from foir.ranking.feedback import Judgements, relevance
from foir.ranking.shortlist import Shortlist, is_worthwhile
from foir.ranking.topk import TopK


class Scorer:
    """Scores one space. Holds no state of any user; safe to share between threads."""

    def __init__(self, encoder: Encoder, space: Space) -> None:
        """Bind a space to its encoder."""
        self.encoder, self.space = encoder, space
        self._lock = Lock()
        self._shortlist: Shortlist | None = None

    def top_k(self, features: Features, mode: str, k: int) -> TopK:
        """The k best rows.

        Args:
            features: Of one query.
            mode: "query" or "query-db"; see `foir.search.query.Query`.
            k: Number of results.

        Raises:
            BadIndex: query-db on a space without a head cache.
        """
        vectors, gate = features.vectors.cpu().numpy(), features.gates[0]
        if mode == "query-db" and gate is not None and is_worthwhile(self.encoder, self.space):
            return self.shortlist.search(gate, vectors[0], k)
        if mode == "query-db":
            return head_cache.search(self.encoder, self.space, features.gates, vectors, k)
        return exact.search(self.space.shards, vectors, k)

    def unit_vectors(self, features: Features, mode: str) -> Sequence[np.ndarray]:
        """Unit vectors of all images [n, dim] in shards, as the query is compared with them.

        Raises:
            BadIndex: See `top_k`.
        """
        if mode == "query-db":
            return list(head_cache.features(self.encoder, self.space, features.gates[0]))
        return self.space.shards

    @property
    def shortlist(self) -> Shortlist:
        """The first stage of query-db mode on a large index, built by its first search."""
        with self._lock:
            if self._shortlist is None:
                self._shortlist = Shortlist(self.encoder, self.space)
            return self._shortlist


def relevance_scores(
    shards: Sequence[np.ndarray], query: np.ndarray | None, liked: Sequence[int], disliked: Sequence[int], rule: str
) -> np.ndarray:
    """Relevance of every row to the query and the judged rows, [n].

    Args:
        shards: Unit vectors; row numbers continue from shard to shard.
        query: Unit vector [dim]; None for a search by words alone with judgements.
        liked: Rows of relevant images.
        disliked: Rows of irrelevant images.
        rule: One of `foir.ranking.feedback.feedback_rules()`.
    """
    return relevance(shards, Judgements(gather(shards, liked), gather(shards, disliked), query), rule)
