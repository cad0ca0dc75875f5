"""An index with its rows in Milvus: vectors, head cache, fields of each image. Thumbnails stay files.

The folder holds the thumbnails and a manifest that names the collection. A search asks Milvus for candidates near the
query and ranks them here with the same code, exactly, in full precision.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foir.errors import BadIndex, Unavailable
from foir.index import local_record
from foir.index.format import ITEM_SCHEMA, OBJECT_SCHEMA
from foir.index.manifest import Manifest, SpaceFacts, Store, read_manifest
from foir.index.reader import Index
from foir.index.records import Item, Object, Space, checked_filters

ITEM_FIELDS = tuple(name for name in ITEM_SCHEMA.names if name != "id")
FIELDS_OF_FORMAT_1 = ITEM_FIELDS[: ITEM_FIELDS.index("content")]
# HNSW search width: recall of the true hundred among 100,000 rows is 1.00; by the default width it is 0.72, in the same
# time (`eval bench milvus`).
EF = 1000
REQUEST_ROWS = 1000
MAX_RESULTS = 16_000  # of one search; Milvus allows 16,384


class MilvusIndex:
    """An opened index. Safe to share between threads; see `foir.index.protocol.IndexLike`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Connect.

        Raises:
            Unavailable: Milvus does not answer, or its client is not installed.
            BadIndex: The collection is gone, or has another number of images than the manifest says; or neither this
                machine nor MILVUS_URI named this Milvus.
        """
        self.folder, self.manifest = folder, manifest
        stored = _trusted_store(folder, manifest)
        self._fields = ITEM_FIELDS if manifest.format > 1 else FIELDS_OF_FORMAT_1
        self._client, self._name, self._uri = connect(stored.uri), stored.collection, stored.uri
        with milvus_errors(self._uri):
            exists = self._client.has_collection(self._name)
            if exists:
                self._client.load_collection(self._name)  # after a restart of Milvus it lies on disk only
            count = (
                self._client.query(self._name, filter="", output_fields=["count(*)"]) if exists else [{"count(*)": 0}]
            )
        if count[0]["count(*)"] != manifest.count:
            raise BadIndex(f"The Milvus collection {self._name} is not what {folder} says: build the index again.")
        self.spaces: Mapping[str, Space] = {name: _space(facts) for name, facts in manifest.spaces.items()}

    @classmethod
    def open(cls, folder: Path) -> MilvusIndex:
        """Open the index whose manifest is in a folder; see `__init__`."""
        try:
            return cls(folder, read_manifest(folder))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: build it again.") from error

    def __len__(self) -> int:
        return self.manifest.count

    def space(self, name: str = "image") -> Space:
        """A space without its vectors; see `IndexLike`."""
        if name not in self.spaces:
            raise BadIndex(f"The index has no {name!r} space; it has {', '.join(self.spaces) or 'none'}.")
        return self.spaces[name]

    def get(self, id: int) -> Item:
        """See `IndexLike`."""
        return _item(self._rows([id], self._fields)[0])

    def sample(self, count: int) -> list[Item]:
        """See `IndexLike`."""
        size = min(count, len(self))
        ids = np.unique(np.linspace(0, (self.manifest.next_id or 1) - 1, 2 * size).astype(int))  # some ids are unused
        rows = self._existing(ids.tolist(), self._fields)
        if len(rows) < min(size, 1 + size // 2):
            fields, limit = ["id", *self._fields], min(size, MAX_RESULTS)
            with milvus_errors(self._uri):
                rows = self._client.query(self._name, filter="id >= 0", output_fields=fields, limit=limit)
        places = np.unique(np.linspace(0, len(rows) - 1, min(size, len(rows))).astype(int))
        return [_item(rows[place]) for place in places]

    def objects(self, id: int) -> tuple[Object, ...]:
        """See `IndexLike`."""
        return _objects(self._rows([id], ["known"])[0])

    @cached_property
    def _files(self) -> Index:
        """The folder's thumbnails, without any row."""
        return self._in_memory([], {})

    def thumb(self, item: Item) -> Path:
        """See `IndexLike`."""
        return self._files.thumb(item)

    def picture(self, item: Item) -> Path:
        """See `IndexLike`."""
        return self._files.picture(item)

    def vectors(self, name: str, ids: Sequence[int]) -> np.ndarray:
        """See `IndexLike`."""
        self.space(name)
        rows = {row["id"]: row[name] for row in self._rows(ids, [name])}
        return np.array([rows[id] for id in ids], np.float32)

    def head_outputs(self, id: int) -> np.ndarray:
        """See `IndexLike`."""
        z = np.array(self._rows([id], ["z"])[0]["z"], np.float32)
        return z.reshape(self.space().z[0].shape[1:])

    def source_counts(self) -> list[tuple[str | None, str | None, int]]:
        """See `IndexLike`; counted when the index was made."""
        return [(source, licence, count) for source, licence, count in self.manifest.origins]

    @property
    def bytes(self) -> int:
        """See `IndexLike`."""
        return self.manifest.bytes

    def candidates(
        self,
        vectors: Mapping[str, Sequence[np.ndarray]],
        count: int,
        *,
        ids: Sequence[int] = (),
        head_cache: bool = False,
        filters: Mapping[str, str | int] | None = None,
    ) -> Index:
        """See `foir.index.protocol.DatabaseIndex`."""
        where = " and ".join(
            f"{name} == {json.dumps(value, ensure_ascii=False)}" for name, value in checked_filters(filters).items()
        )
        near, limit = set(ids), min(count, MAX_RESULTS, len(self))
        with milvus_errors(self._uri):
            for name, queries in vectors.items():
                if not len(queries):
                    continue
                results = self._client.search(
                    self._name,
                    data=[np.asarray(query, np.float32).tolist() for query in queries],
                    anns_field=name,
                    filter=where,
                    limit=limit,
                    search_params={"metric_type": "IP", "params": {"ef": max(EF, limit)}},
                )
                near |= {hit["id"] for hits in results for hit in hits}
        fields = [*self._fields, *vectors, *(["z", "residual"] if head_cache and self.space().z else [])]
        return self._in_memory(self._rows(sorted(near), fields), {name: self.spaces[name] for name in vectors})

    def _in_memory(self, rows: Sequence[Mapping[str, Any]], spaces: Mapping[str, Space]) -> Index:
        """Some rows as an index in memory."""
        items = pa.Table.from_pylist([{name: row.get(name) for name in ITEM_SCHEMA.names} for row in rows], ITEM_SCHEMA)

        def matrix(field: str, shape_of: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            if not shape_of or not rows or field not in rows[0]:
                return ()
            values = np.array([row[field] for row in rows], np.float32)
            return (values.reshape(len(rows), *shape_of[0].shape[1:]),)

        subset = {
            name: Space(
                space.encoder,
                space.revision,
                space.reference_feature,
                matrix(name, space.shards) or space.shards,
                matrix("z", space.z) if name == "image" else (),
                matrix("residual", space.residual) if name == "image" else (),
                space.dtype,
            )
            for name, space in spaces.items()
        }
        return Index(self.folder, self.manifest, items, OBJECT_SCHEMA.empty_table(), [], subset)

    def _rows(self, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        rows = self._existing(ids, fields)
        missing = set(ids) - {row["id"] for row in rows}
        if missing:
            raise BadIndex(f"The index has no picture with id {min(missing)}.")
        return rows

    def _existing(self, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of those ids that exist, sorted by id."""
        valid = sorted({id for id in ids if type(id) is int and -(2**63) <= id < 2**63})
        rows: list[dict[str, Any]] = []
        with milvus_errors(self._uri):
            for start in range(0, len(valid), REQUEST_ROWS):
                rows += self._client.query(
                    self._name, ids=valid[start : start + REQUEST_ROWS], output_fields=["id", *fields]
                )
        return sorted(rows, key=lambda row: int(row["id"]))


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


def _trusted_store(folder: Path, manifest: Manifest) -> Store:
    """Where the rows are, if this machine or its user said so: a stranger's address is not connected to.

    Raises:
        BadIndex: Nobody here did.
    """
    stored = manifest.store
    if stored is None:
        raise BadIndex(f"The rows of the index {folder} are kept in files, not in Milvus.")
    named = os.environ.get("MILVUS_URI", "").rstrip("/")
    if stored.uri.rstrip("/") != named and not local_record.is_own(folder, manifest):
        raise BadIndex(
            f"The index {folder} keeps its rows in {stored.uri!r}, which this machine did not set up: "
            "if you trust that address, set MILVUS_URI to it."
        )
    return stored


def _space(facts: SpaceFacts) -> Space:
    """A space whose matrices have no rows but the right shapes."""

    def matrix(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        return (np.empty((0, *shape), np.float32),) if shape else ()

    feature = np.asarray(facts.reference_feature, np.float32)
    parts = (matrix(facts.shape), matrix(facts.z), matrix(facts.residual))
    return Space(facts.encoder, facts.revision, feature, *parts, facts.dtype)


def _item(row: Mapping[str, Any]) -> Item:
    facts: dict[str, Any] = {name: row.get(name) for name in ITEM_SCHEMA.names}
    return Item(**facts)


def _objects(row: Mapping[str, Any]) -> tuple[Object, ...]:
    return tuple(Object(**{**facts, "box": tuple(facts["box"])}) for facts in row["known"] or ())
