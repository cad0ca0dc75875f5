"""Scores of an index's pictures against one query feature, as they are or through the heads that the query selected."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from foir.encoders.base import Encoder, Features
from foir.errors import BadPrompt
from foir.index import Space
from foir.ranking import exact, head_cache
from foir.ranking.exact import TopK
from foir.ranking.feedback import Judgements, relevance
from foir.ranking.shortlist import Shortlist, is_worthwhile

MODES = ("query", "query-db", "small")


class Scorer:
    """Scores one space. Holds no state of any user; safe to share between threads."""

    def __init__(self, encoder: Encoder, space: Space) -> None:
        """Bind a space to its encoder."""
        self.encoder, self.space = encoder, space
        self._making = Lock()
        self._shortlist: Shortlist | None = None

    def top_k(self, features: Features, mode: str, k: int) -> TopK:
        """The k best rows.

        Args:
            features: Of one query.
            mode: "query" or "query-db"; see `foir.search.searcher.Searcher.search`.
            k: How many.

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
        """All pictures' unit vectors [n, dim] in shards, in the form in which the query is compared with them.

        Raises:
            BadIndex: See `nearest`.
        """
        if mode == "query-db":
            return list(head_cache.features(self.encoder, self.space, features.gates[0]))
        return self.space.shards

    @property
    def shortlist(self) -> Shortlist:
        """The first stage of query-db mode on a large index, made when it is first needed."""
        with self._making:
            if self._shortlist is None:
                self._shortlist = Shortlist(self.encoder, self.space)
            return self._shortlist


def relevance_scores(
    shards: Sequence[np.ndarray], query: np.ndarray | None, liked: Sequence[int], disliked: Sequence[int], rule: str
) -> np.ndarray:
    """How much every row is what the query and the judged rows ask for, [n]: the cosine where nothing was judged.

    Args:
        shards: Unit vectors whose rows count on from one shard to the next.
        query: Unit vector [dim]; None where words alone were searched for and something was judged.
        liked: Rows that were right.
        disliked: Rows that were wrong.
        rule: One of `foir.ranking.feedback.feedback_rules()`.
    """
    if query is not None and not liked and not disliked:
        return exact.scores(shards, query)
    return relevance(shards, Judgements(exact.gather(shards, liked), exact.gather(shards, disliked), query), rule)


def check_mode(mode: str) -> None:
    """Refuse a mode that is none.

    Raises:
        BadPrompt: There is no such mode.
    """
    if mode not in MODES:
        raise BadPrompt(f"Unknown mode {mode!r}: use one of {', '.join(MODES)}.")
