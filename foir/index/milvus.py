"""An index whose rows are kept in Milvus: vectors, head cache, what is known of each picture. Thumbnails stay files.

The folder holds a manifest that names the collection, and the thumbnails. A search asks Milvus for what is near, and
ranks that here with the same code, exactly, in full precision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foir.errors import BadIndex, Unavailable
from foir.index.format import ITEM_SCHEMA, OBJECT_SCHEMA, read_manifest
from foir.index.reader import Index
from foir.index.records import Item, Object, Space, checked_filters

FACTS = tuple(name for name in ITEM_SCHEMA.names if name != "id")
# Searched this wide, the graph gives the true hundred of 100,000 rows (recall 1.00); by its own width it gives 0.72 of
# them, in the same time (`eval bench milvus`).
WIDTH = 1000
AT_ONCE = 1000  # rows of one request
MOST = 16_000  # results of one search; Milvus allows 16,384


class MilvusIndex:
    """An opened index. Safe to share between threads; see `foir.index.protocol.IndexLike`."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Connect.

        Raises:
            Unavailable: Milvus does not answer, or its client is not installed.
            BadIndex: The collection is gone, or has another number of pictures than the manifest says.
        """
        self.folder, self.manifest = folder, manifest
        stored = manifest["store"]
        self._client, self._name = connected(stored["uri"]), stored["collection"]
        with answering(stored["uri"]):
            there = self._client.has_collection(self._name)
            if there:
                self._client.load_collection(self._name)  # after a restart of Milvus it lies on disk only
            held = self._client.query(self._name, filter="", output_fields=["count(*)"]) if there else [{"count(*)": 0}]
        if held[0]["count(*)"] != manifest["count"]:
            raise BadIndex(f"The Milvus collection {self._name} is not what {folder} says: build the index again.")
        self.spaces: Mapping[str, Space] = {name: _space(facts) for name, facts in manifest["spaces"].items()}

    @classmethod
    def open(cls, folder: Path) -> MilvusIndex:
        """Open the index whose manifest is in a folder; see `__init__`."""
        try:
            return cls(folder, read_manifest(folder))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: build it again.") from error

    def __len__(self) -> int:
        return int(self.manifest["count"])

    def space(self, name: str = "image") -> Space:
        """What made a space; see `IndexLike`."""
        if name not in self.spaces:
            raise BadIndex(f"The index has no {name!r} space; it has {', '.join(self.spaces) or 'none'}.")
        return self.spaces[name]

    def get(self, id: int) -> Item:
        """See `IndexLike`."""
        return _item(self._rows([id], FACTS)[0])

    def sample(self, count: int) -> list[Item]:
        """See `IndexLike`."""
        wanted = min(count, len(self))
        ids = np.unique(np.linspace(0, self.manifest["next_id"] - 1, 2 * wanted).astype(int))  # some cannot be read
        found = self._found(ids.tolist(), FACTS)
        if len(found) < min(wanted, 1 + wanted // 2):
            with answering(self.manifest["store"]["uri"]):
                most = min(wanted, MOST)
                found = self._client.query(self._name, filter="id >= 0", output_fields=["id", *FACTS], limit=most)
        places = np.unique(np.linspace(0, len(found) - 1, min(wanted, len(found))).astype(int))
        return [_item(found[place]) for place in places]

    def objects(self, id: int) -> tuple[Object, ...]:
        """See `IndexLike`."""
        return _objects(self._rows([id], ["known"])[0])

    @cached_property
    def _files(self) -> Index:
        """What lies in the folder, without any row."""
        return self._local([], {})

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
        return [(source, licence, count) for source, licence, count in self.manifest["origins"]]

    @property
    def bytes(self) -> int:
        """See `IndexLike`."""
        return int(self.manifest["bytes"])

    def candidates(
        self,
        wishes: Mapping[str, Sequence[np.ndarray]],
        count: int,
        *,
        ids: Sequence[int] = (),
        heads: bool = False,
        only: Mapping[str, str | int] | None = None,
    ) -> Index:
        """See `IndexLike`."""
        where = " and ".join(
            f"{name} == {json.dumps(value, ensure_ascii=False)}" for name, value in checked_filters(only).items()
        )
        wanted, most = set(ids), min(count, MOST, len(self))
        with answering(self.manifest["store"]["uri"]):
            for name, vectors in wishes.items():
                if not len(vectors):
                    continue
                found = self._client.search(
                    self._name,
                    data=[np.asarray(vector, np.float32).tolist() for vector in vectors],
                    anns_field=name,
                    filter=where,
                    limit=most,
                    search_params={"metric_type": "IP", "params": {"ef": max(WIDTH, most)}},
                )
                wanted |= {hit["id"] for hits in found for hit in hits}
        fields = [*FACTS, *wishes, *(["z", "residual"] if heads and self.space().z else [])]
        return self._local(self._rows(sorted(wanted), fields), {name: self.spaces[name] for name in wishes})

    def _local(self, rows: Sequence[Mapping[str, Any]], spaces: Mapping[str, Space]) -> Index:
        """Some rows as an index in memory."""
        items = pa.Table.from_pylist([{name: row.get(name) for name in ITEM_SCHEMA.names} for row in rows], ITEM_SCHEMA)

        def matrix(field: str, like: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            if not like or not rows or field not in rows[0]:
                return ()
            values = np.array([row[field] for row in rows], np.float32)
            return (values.reshape(len(rows), *like[0].shape[1:]),)

        made = {
            name: Space(
                space.encoder,
                space.revision,
                space.reference_feature,
                matrix(name, space.shards) or space.shards,
                matrix("z", space.z) if name == "image" else (),
                matrix("residual", space.residual) if name == "image" else (),
                space.recipe,
            )
            for name, space in spaces.items()
        }
        return Index(self.folder, self.manifest, items, OBJECT_SCHEMA.empty_table(), [], made)

    def _rows(self, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        rows = self._found(ids, fields)
        missing = set(ids) - {row["id"] for row in rows}
        if missing:
            raise BadIndex(f"The index has no picture with id {min(missing)}.")
        return rows

    def _found(self, ids: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Those of some ids that are there, by id."""
        known = sorted({id for id in ids if type(id) is int and -(2**63) <= id < 2**63})
        rows: list[dict[str, Any]] = []
        with answering(self.manifest["store"]["uri"]):
            for start in range(0, len(known), AT_ONCE):
                some = known[start : start + AT_ONCE]
                rows += self._client.query(self._name, ids=some, output_fields=["id", *fields])
        return sorted(rows, key=lambda row: int(row["id"]))


@lru_cache
def connected(uri: str) -> Any:
    """The client of a Milvus: a file of milvus-lite, or the address of a cluster.

    MILVUS_TOKEN goes to the address that MILVUS_URI names and to no other: an index's folder may come from anywhere.

    Raises:
        Unavailable: The client is not installed, or nothing answers.
    """
    import logging
    import os

    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise Unavailable("Milvus's client is not installed: pip install -r requirements-scale.txt.") from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it would print is raised too
    with answering(uri):
        own = uri.rstrip("/") == os.environ.get("MILVUS_URI", "").rstrip("/")
        return MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", "") if own else "")


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What goes wrong between here and Milvus, in one sentence.

    Raises:
        Unavailable: It did.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("pymilvus", "grpc", "milvus_lite")):
            raise
        said = str(getattr(error, "message", "") or error).strip().splitlines()
        raise Unavailable(f"Milvus at {uri} does not do it: {said[0] if said else type(error).__name__}.") from error


def _space(facts: Mapping[str, Any]) -> Space:
    """What made a space; its matrices have no rows here, but the right shapes."""

    def shape(name: str) -> tuple[np.ndarray, ...]:
        return (np.empty((0, *facts[name]), np.float32),) if facts.get(name) else ()

    probe = np.asarray(facts["probe"], np.float32)
    return Space(
        facts["encoder"], facts["revision"], probe, shape("shape"), shape("z"), shape("residual"), facts["way"]
    )


def _item(row: Mapping[str, Any]) -> Item:
    facts: dict[str, Any] = {name: row.get(name) for name in ITEM_SCHEMA.names}
    return Item(**facts)


def _objects(row: Mapping[str, Any]) -> tuple[Object, ...]:
    return tuple(Object(**{**thing, "box": tuple(thing["box"])}) for thing in row["known"] or ())
