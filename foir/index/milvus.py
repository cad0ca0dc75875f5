"""An index with its rows in Milvus: vectors, head cache, fields of each image. Thumbnails stay files.

The folder holds the thumbnails, a manifest that names the collections, and some images' vectors: the background. A
search asks Milvus for candidates near the query and ranks them here with the same code, exactly, in full precision.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foir.errors import BadIndex
from foir.index import local_record, spaces
from foir.index.digest_cache import verified_files
from foir.index.filters import parse_filters
from foir.index.format import ITEM_SCHEMA, OBJECT_SCHEMA
from foir.index.manifest import Manifest, SpaceFacts, Store, read_manifest
from foir.index.milvus_client import MAX_RESULTS, Collection
from foir.index.milvus_regions import RegionRows
from foir.index.reader import Index
from foir.index.records import Background, Facets, Item, Object, Regions, Space

ITEM_FIELDS = tuple(name for name in ITEM_SCHEMA.names if name != "id")
FIELDS_OF_FORMAT_1 = ITEM_FIELDS[: ITEM_FIELDS.index("content")]
REQUEST_ROWS = 1000
FACET_ITEMS = 500  # whose facts are offered to narrow a search


class MilvusIndex:
    """An opened index. Safe to share between threads; see `foir.index.protocol.IndexLike`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Connect.

        Raises:
            Unavailable: Milvus does not answer, or its client is not installed.
            BadIndex: A collection is gone, or has another number of rows than the manifest says; the background is
                damaged; or neither this machine nor MILVUS_URI named this Milvus.
        """
        self.folder, self.manifest = folder, manifest
        stored = _trusted_store(folder, manifest)
        self._fields = ITEM_FIELDS if manifest.format > 1 else FIELDS_OF_FORMAT_1
        self._collection = Collection(stored.uri, stored.collection)
        if self._collection.count() != manifest.count:
            raise BadIndex(
                f"The Milvus collection {stored.collection} is not what {folder} says: build the index again."
            )
        self.spaces: Mapping[str, Space] = {name: _space(facts) for name, facts in manifest.spaces.items()}
        self.background = _background(folder, manifest)
        self.regions: Regions | None = None if self.background is None else self.background.regions
        self._region_rows: RegionRows | None = None
        if stored.regions is not None and self.regions is not None:
            self._region_rows = RegionRows(Collection(stored.uri, stored.regions), manifest)

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
            rows = self._collection.query(["id", *self._fields], filter="id >= 0", limit=min(size, MAX_RESULTS))
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

    def facets(self) -> Facets:
        """See `IndexLike`; those of a sample."""
        items = self.sample(FACET_ITEMS)
        cameras = [item.camera for item in items if item.camera]
        return Facets.of((i.file for i in items), cameras, dated=any(i.taken_from == "exif" for i in items))

    @property
    def bytes(self) -> int:
        """See `IndexLike`."""
        return self.manifest.bytes

    def candidates(
        self,
        vectors: Mapping[str, Sequence[np.ndarray]],
        count: int,
        *,
        things: Sequence[np.ndarray] | None = None,
        ids: Sequence[int] = (),
        head_cache: bool = False,
        filters: Mapping[str, str | int] | None = None,
    ) -> Index:
        """See `foir.index.protocol.DatabaseIndex`."""
        where = " and ".join(condition.expression for condition in parse_filters(filters))
        near, limit = set(ids), min(count, MAX_RESULTS, len(self))
        for name, queries in vectors.items():
            if len(queries):
                near |= {hit["id"] for hit in self._collection.search(name, queries, limit, where=where)}
        regions = None if things is None else self._region_rows
        if regions is not None:
            for thing in things or ():
                near |= set(regions.near(thing, limit, lambda found: self._passing(found, where)))
        fields = [*self._fields, *vectors, *(["z", "residual"] if head_cache and self.space().z else [])]
        rows = self._rows(sorted(near), fields)
        return self._in_memory(rows, {name: self.spaces[name] for name in vectors}, regions)

    def _passing(self, ids: list[int], where: str) -> list[int]:
        """Those of some ids whose images pass a filter, in the same order."""
        passing: set[int] = set()
        for start in range(0, len(ids) if where else 0, REQUEST_ROWS):
            some = ids[start : start + REQUEST_ROWS]
            passing |= {row["id"] for row in self._collection.query(["id"], filter=f"{where} and id in {some}")}
        return [id for id in ids if id in passing] if where else ids

    def _in_memory(
        self, rows: Sequence[Mapping[str, Any]], spaces: Mapping[str, Space], region_rows: RegionRows | None = None
    ) -> Index:
        """Some rows, sorted by id, as an index in memory."""
        items = pa.Table.from_pylist([{name: row.get(name) for name in ITEM_SCHEMA.names} for row in rows], ITEM_SCHEMA)

        def matrix(field: str, shape_of: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            if not shape_of or not rows or field not in rows[0]:
                return ()
            values = np.array([row[field] for row in rows], np.float32)
            return (values.reshape(len(rows), *shape_of[0].shape[1:]),)

        subset = {
            name: replace(
                space,
                shards=matrix(name, space.shards) or space.shards,
                z=matrix("z", space.z) if name == "image" else (),
                residual=matrix("residual", space.residual) if name == "image" else (),
            )
            for name, space in spaces.items()
        }
        regions = None
        if region_rows is not None and self.regions is not None and rows:
            regions = region_rows.of([row["id"] for row in rows], self.regions.recipe)
        return Index(self.folder, self.manifest, items, OBJECT_SCHEMA.empty_table(), [], subset, regions)

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
        for start in range(0, len(valid), REQUEST_ROWS):
            rows += self._collection.query(["id", *fields], ids=valid[start : start + REQUEST_ROWS])
        return sorted(rows, key=lambda row: int(row["id"]))


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


def _background(folder: Path, manifest: Manifest) -> Background | None:
    """The images in the folder's own files; None where the index has no regions.

    Raises:
        BadIndex: A file is damaged.
        ValueError: The files do not fit each other, or the store.
    """
    facts, stored = manifest.regions, manifest.store
    if (facts is None) != (stored is None or stored.regions is None):
        raise ValueError("regions without a collection, or a collection without regions")
    if facts is None:
        return None
    with verified_files(folder, manifest):
        by_name = {name: spaces.read_space(folder, each) for name, each in manifest.spaces.items()}
        regions = spaces.read_regions(folder, facts, by_name["image"], own=False)
        if regions is None or len({sum(map(len, space.shards)) for space in by_name.values()}) != 1:
            raise ValueError("spaces with different numbers of vectors")
    return Background(by_name, regions)


def _item(row: Mapping[str, Any]) -> Item:
    facts: dict[str, Any] = {name: row.get(name) for name in ITEM_SCHEMA.names}
    return Item(**facts)


def _objects(row: Mapping[str, Any]) -> tuple[Object, ...]:
    return tuple(Object(**{**facts, "box": tuple(facts["box"])}) for facts in row["known"] or ())
