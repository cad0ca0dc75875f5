"""Keeping the rows of an index in Milvus: the files of a build become rows of a new collection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from foir.errors import Unavailable
from foir.index import Index, Item, Object, writer
from foir.index.milvus import ITEM_FIELDS, connect, milvus_errors
from foir.index.reader import STORE

from . import milvus_collections

PREFIX = "milvus:"
INSERT_ROWS = 500  # of one request
MAX_CHARACTERS = {"file": 4096, "caption": 32768, "source": 4096, "licence": 4096, "thumb": 64}
NULLABLE = ("caption", "source", "licence")
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

    def commit(self, out: Path, manifest: Mapping[str, Any]) -> None:
        """Send the rows, then write a manifest that names their collection; see `Store.commit`."""
        collection = milvus_collections.begin(out, self.uri)
        writer.write_manifest(out, send_rows(Index.of(out, manifest), **collection))


def parse_store(address: str) -> str:
    """The URI in `milvus:URI`; the absolute path of a milvus-lite file.

    Raises:
        Unavailable: The address is not a store.
    """
    uri = address.removeprefix(PREFIX)
    if uri == address or not uri:
        raise Unavailable(f"{address} is no store: write milvus:FILE.db or milvus:http://HOST:19530.")
    return uri if "://" in uri else str(Path(uri).resolve())


def send_rows(index: Index, uri: str, collection: str) -> dict[str, Any]:
    """Copy the rows of an index to a new collection.

    Args:
        index: In files.
        uri: Of Milvus.
        collection: Name of the new collection.

    Returns:
        The manifest of an index whose rows are there.

    Raises:
        Unavailable: Milvus does not accept them.
    """
    client = connect(uri)
    with milvus_errors(uri):
        client.create_collection(collection, schema=_schema(client, index))
        with tqdm(total=len(index), unit="image", desc="send") as bar:
            for rows in _rows(index):
                client.insert(collection, rows)
                bar.update(len(rows))
        client.flush(collection)
        params = client.prepare_index_params()
        for space in index.spaces:
            params.add_index(space, **VECTOR_INDEX)
        client.create_index(collection, params)
        client.load_collection(collection)
    return _manifest(index, {"uri": uri, "collection": collection})


def _schema(client: Any, index: Index) -> Any:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name, characters in MAX_CHARACTERS.items():
        schema.add_field(name, DataType.VARCHAR, max_length=characters, nullable=name in NULLABLE)
    for name in ("width", "height"):
        schema.add_field(name, DataType.INT32)
    for name in ("bytes", "modified"):
        schema.add_field(name, DataType.INT64, nullable=True)
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
                rows.append({"id": item.id, **_fields(item), "known": _known_objects(index, item) or None, **vectors})
            position += len(rows)
            yield rows


def _fields(item: Item) -> dict[str, Any]:
    fields = {name: getattr(item, name) for name in ITEM_FIELDS}
    return fields | {name: _truncate(fields[name], size) for name, size in MAX_CHARACTERS.items()}


def _truncate(text: str | None, size: int) -> str | None:
    """A text of at most `size` bytes in UTF-8."""
    return None if text is None else text.encode()[:size].decode(errors="ignore")


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


def _manifest(index: Index, store: Mapping[str, str]) -> dict[str, Any]:
    spaces: dict[str, Mapping[str, Any]] = {}
    for name, space in index.spaces.items():
        facts = {"encoder": space.encoder, "revision": space.revision, "way": space.recipe}
        cache = {part: list(shape) for part, shape in _cache_shapes(index).items()} if name == "image" else {}
        shape = [space.shards[0].shape[1]]
        spaces[name] = {**facts, "probe": space.reference_feature.tolist(), "shape": shape, **cache}
    rejected = index.manifest["rejected"]
    return {
        "format": index.manifest["format"],
        STORE: store,
        "count": len(index),
        "bytes": index.bytes,
        "root": index.manifest["root"],
        "next_id": index.manifest["next_id"],
        "origins": [list(origin) for origin in index.source_counts()],
        "rejected": rejected,
        "files": {rejected: index.manifest["files"][rejected]},
        "spaces": spaces,
    }
