"""Talking to Milvus: connecting, asking one collection, and errors in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from foir.errors import Unavailable

# HNSW search width: recall of the true hundred among 100,000 rows is 1.00; by the default width it is 0.72, in the same
# time (`eval bench milvus`).
EF = 1000
MAX_RESULTS = 16_000  # of one search; Milvus allows 16,384


class Collection:
    """A collection of Milvus. Safe to share between threads.

    Every method raises `Unavailable` where Milvus refuses or does not answer.
    """

    def __init__(self, uri: str, name: str) -> None:
        """Connect; see `connect`."""
        self.uri, self.name = uri, name
        self._client = connect(uri)

    def count(self) -> int:
        """Number of rows, which are loaded for searches; 0 where there is no such collection."""
        with milvus_errors(self.uri):
            if not self._client.has_collection(self.name):
                return 0
            self._client.load_collection(self.name)  # after a restart of Milvus it lies on disk only
            counted = self._client.query(self.name, filter="", output_fields=["count(*)"])
        return int(counted[0]["count(*)"])

    def query(self, fields: Sequence[str], **which: Any) -> list[dict[str, Any]]:
        """Fields of the rows that `filter` or `ids` name, at most `limit`; vectors as arrays."""
        with milvus_errors(self.uri):
            rows = self._client.query(self.name, output_fields=list(fields), strict_float32=True, **which)
            return list(rows)  # the client decodes them only now

    def search(
        self, field: str, vectors: Sequence[np.ndarray], limit: int, *, where: str = "", fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The rows nearest to each vector by dot product, the nearest of all first: `id`, `distance` and `entity`.

        Args:
            field: Of vectors.
            vectors: Unit vectors [dim].
            limit: Number of rows for each of them, at most `MAX_RESULTS`.
            where: A filter.
            fields: What `entity` holds.
        """
        with milvus_errors(self.uri):
            results = self._client.search(
                self.name,
                data=[np.asarray(vector, np.float32).tolist() for vector in vectors],
                anns_field=field,
                filter=where,
                limit=limit,
                output_fields=list(fields),
                search_params={"metric_type": "IP", "params": {"ef": max(EF, limit)}},
            )
        return sorted((hit for hits in results for hit in hits), key=lambda hit: -float(hit["distance"]))


@lru_cache
def connect(uri: str) -> Any:
    """The client of a Milvus: a file of milvus-lite, or the address of a cluster.

    MILVUS_TOKEN is sent to the address in MILVUS_URI only: an index's folder may come from a stranger.

    Raises:
        Unavailable: The client is not installed, or nothing answers.
    """
    import logging

    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise Unavailable("Milvus's client is not installed: pip install -r requirements-scale.txt.") from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it raises what it would print
    with milvus_errors(uri):
        is_trusted = uri.rstrip("/") == os.environ.get("MILVUS_URI", "").rstrip("/")
        return MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", "") if is_trusted else "")


@contextmanager
def milvus_errors(uri: str) -> Iterator[None]:
    """Turn errors of Milvus and its client into one sentence.

    Raises:
        Unavailable: Milvus refuses or does not answer.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("pymilvus", "grpc", "milvus_lite")):
            raise
        lines = str(getattr(error, "message", "") or error).strip().splitlines()
        raise Unavailable(f"Milvus at {uri} failed: {lines[0] if lines else type(error).__name__}.") from error
