"""Keeping the rows of an index in Milvus: the files of a build become rows of a new collection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from foir.errors import Unavailable
from foir.index import Index, Item, Object
from foir.index.format import BOX, ITEM_SCHEMA
from foir.index.manifest import Manifest, Store
from foir.index.milvus import ITEM_FIELDS
from foir.index.milvus_client import connect, milvus_errors
from foir.index.milvus_regions import ITEM, VECTOR
from foir.index.records import Regions

from . import milvus_collections
from .background import write_background

PREFIX = "milvus:"
INSERT_ROWS = 500  # of one request
MAX_TEXT = 16384  # bytes of a text, four for each character that `foir.index.tables` allows
MAX_ORIGINS = 1000  # sources and licences that the manifest counts, the most frequent
REQUIRED = ("file", "width", "height", "thumb")
# Characters of JSON that the objects of a row may take, and how many objects surely fit without their masks.
MAX_OBJECT_JSON, MAX_OBJECTS = 60_000, 200
# The index determines what each search costs. The graph finds more of the true neighbours the wider it is built.
VECTOR_INDEX = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 32, "efConstruction": 360}}


class MilvusStore:
    """Keeps the rows in a new Milvus collection for each build; see `index_build.store.Store`."""

    def __init__(self, address: str) -> None:
        """Connect, before anything is encoded.

        Args:
            address: "milvus:URI".

        Raises:
            Unavailable: The address is not a store, or Milvus does not answer.
        """
        self.uri = parse_store(address)
        connect(self.uri)

    def keep(self, out: Path, manifest: Manifest) -> Manifest:
        """Send the rows; the manifest names their collections; see `index_build.store.Store.keep`."""
        index = Index.of(out, manifest)
        return send_rows(index, milvus_collections.begin(out, self.uri, with_regions=index.regions is not None))

    def finish(self, out: Path) -> None:
        """Record that the collections are in use; see `index_build.store.Store.finish`."""
        milvus_collections.finish(out)


def parse_store(address: str) -> str:
    """The URI in `milvus:URI`; the absolute path of a milvus-lite file.

    Raises:
        Unavailable: The address is not a store.
    """
    uri = address.removeprefix(PREFIX)
    if uri == address or not uri:
        raise Unavailable(f"{address} is no store: write milvus:FILE.db or milvus:http://HOST:19530.")
    return uri if "://" in uri else str(Path(uri).resolve())


def send_rows(index: Index, store: Store) -> Manifest:
    """Copy the rows of an index to new collections.

    Args:
        index: In files.
        store: Milvus, and the names of the new collections; that of regions exactly where the index has some.

    Returns:
        The manifest of an index whose rows are there.

    Raises:
        Unavailable: Milvus does not accept them.
    """
    client = connect(store.uri)
    with milvus_errors(store.uri):
        with tqdm(total=len(index), unit="image", desc="send") as bar:
            _fill(client, store.collection, _schema(client, index), list(index.spaces), _counted(_rows(index), bar))
        if store.regions is not None and index.regions is not None:
            schema = _region_schema(client, index.regions)
            with tqdm(total=sum(map(len, index.regions.vectors)), unit="region", desc="send") as bar:
                _fill(client, store.regions, schema, [VECTOR], _counted(_region_rows(index, index.regions), bar))
    return _manifest(index, store)


def _counted(batches: Iterable[list[dict[str, Any]]], bar: tqdm) -> Iterator[list[dict[str, Any]]]:
    for rows in batches:
        yield rows
        bar.update(len(rows))


def _fill(
    client: Any, collection: str, schema: Any, vectors: Sequence[str], batches: Iterable[list[dict[str, Any]]]
) -> None:
    """Create a collection and its rows, then the graphs of its vector fields."""
    client.create_collection(collection, schema=schema)
    for rows in batches:
        client.insert(collection, rows)
    client.flush(collection)
    params = client.prepare_index_params()
    for name in vectors:
        params.add_index(name, **VECTOR_INDEX)
    if ITEM in [field.name for field in schema.fields]:
        params.add_index(ITEM, index_type="INVERTED")  # a search reads the regions of its candidates
    client.create_index(collection, params)
    client.load_collection(collection)


def _schema(client: Any, index: Index) -> Any:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name in ITEM_FIELDS:
        kind = ITEM_SCHEMA.field(name).type
        if pa.types.is_string(kind):
            schema.add_field(name, DataType.VARCHAR, max_length=MAX_TEXT, nullable=name not in REQUIRED)
        else:
            number = {pa.int32(): DataType.INT32, pa.int64(): DataType.INT64, pa.float64(): DataType.DOUBLE}[kind]
            schema.add_field(name, number, nullable=name not in REQUIRED)
    schema.add_field("known", DataType.JSON, nullable=True)
    for name, space in index.spaces.items():
        schema.add_field(name, DataType.FLOAT_VECTOR, dim=space.shards[0].shape[1])
    for name, shape in _cache_shapes(index).items():
        schema.add_field(name, DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=int(np.prod(shape)))
    return schema


def _rows(index: Index) -> Iterator[list[dict[str, Any]]]:
    """The rows of an index, `INSERT_ROWS` at a time."""
    image, position = index.space(), 0
    for number, shard in enumerate(image.shards):
        matrices = {name: space.shards[number] for name, space in index.spaces.items()}
        if image.z:
            matrices |= {"z": image.z[number].reshape(len(shard), -1), "residual": image.residual[number]}
        for first in range(0, len(shard), INSERT_ROWS):
            values = {
                name: np.asarray(rows[first : first + INSERT_ROWS], np.float32) for name, rows in matrices.items()
            }
            rows = []
            for row in range(len(values["image"])):
                item = index.item(position + row)
                vectors = {name: matrix[row].tolist() for name, matrix in values.items()}
                fields = {name: getattr(item, name) for name in ITEM_FIELDS}
                rows.append({"id": item.id, **fields, "known": _known_objects(index, item) or None, **vectors})
            position += len(rows)
            yield rows


def _region_schema(client: Any, regions: Regions) -> Any:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field(ITEM, DataType.INT64)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=regions.vectors[0].shape[1])
    for corner in BOX:
        schema.add_field(corner, DataType.INT32)
    return schema


def _region_rows(index: Index, regions: Regions) -> Iterator[list[dict[str, Any]]]:
    """The regions of an index, `INSERT_ROWS` at a time; those of an image have ascending ids."""
    id = row = 0
    for vectors, boxes, starts in zip(regions.vectors, regions.boxes, regions.starts, strict=True):
        items = np.repeat([index.item(row + place).id for place in range(len(starts) - 1)], np.diff(starts))
        row += len(starts) - 1
        for first in range(0, len(vectors), INSERT_ROWS):
            part = slice(first, first + INSERT_ROWS)
            rows = [
                {
                    "id": id + number,
                    ITEM: int(item),
                    VECTOR: vector.tolist(),
                    **dict(zip(BOX, box.tolist(), strict=True)),
                }
                for number, (item, vector, box) in enumerate(
                    zip(items[part], vectors[part].astype(np.float32), boxes[part], strict=True)
                )
            ]
            id += len(rows)
            yield rows


def _known_objects(index: Index, item: Item) -> list[dict[str, Any]]:
    """The objects of an image; without their masks, which are what is long, where they would not fit into a row."""
    objects = [_object_fields(known) for known in index.objects(item.id)]
    if len(json.dumps(objects)) > MAX_OBJECT_JSON:
        objects = [{**fields, "mask": None} for fields in objects][:MAX_OBJECTS]
    return objects


def _object_fields(known: Object) -> dict[str, Any]:
    return {**asdict(known), "box": list(known.box)}


def _cache_shapes(index: Index) -> dict[str, Sequence[int]]:
    """Shapes of a row of the head cache; empty without one."""
    space = index.space()
    return {"z": space.z[0].shape[1:], "residual": space.residual[0].shape[1:]} if space.z else {}


def _manifest(index: Index, store: Store) -> Manifest:
    cache, spaces = _cache_shapes(index), {}
    background = write_background(index)
    for name, facts in background.spaces.items():
        shapes = {"shape": index.spaces[name].shards[0].shape[1:], **(cache if name == "image" else {})}
        spaces[name] = facts.model_copy(update=shapes)
    rejected = index.manifest.rejected
    return Manifest(
        format=index.manifest.format,
        store=store,
        count=len(index),
        region_count=sum(map(len, index.regions.vectors)) if index.regions else 0,
        bytes=index.bytes,
        next_id=index.manifest.next_id,
        origins=tuple(index.source_counts()[:MAX_ORIGINS]),
        rejected=rejected,
        files={rejected: index.manifest.files[rejected], **background.files},
        spaces=spaces,
        regions=background.regions,
    )
