"""Sending an index that was just built to Milvus: its shards become rows of a new collection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from foir.errors import Unavailable
from foir.index import Index, Item, Object
from foir.index.milvus import ITEM_FIELDS, connect, milvus_errors
from foir.index.reader import STORE

ROWS = 500  # of one insert
CHARACTERS = {"file": 4096, "caption": 32768, "source": 4096, "licence": 4096, "thumb": 64}
PREFIX = "milvus:"
KNOWN, MOST_KNOWN = 60_000, 200  # characters of JSON that a row holds, and objects that surely fit into them
# What each search costs is the index's; the graph finds more of the true neighbours the wider it is built.
INDEX = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 32, "efConstruction": 360}}


def uri_of(store: str) -> str:
    """The address that `milvus:URI` names; of a file of milvus-lite the whole path.

    Raises:
        Unavailable: It names none.
    """
    uri = store.removeprefix(PREFIX)
    if uri == store or not uri:
        raise Unavailable(f"{store} is no store: write milvus:FILE.db or milvus:http://HOST:19530.")
    return uri if "://" in uri else str(Path(uri).resolve())


def send(index: Index, uri: str, collection: str) -> dict[str, Any]:
    """Keep an index's rows in a new collection.

    Args:
        index: In files.
        uri: Of Milvus.
        collection: Its name.

    Returns:
        The manifest of an index that is kept there.

    Raises:
        Unavailable: Milvus does not take it.
    """
    client = connect(uri)
    cached = bool(index.space().z)
    with milvus_errors(uri):
        client.create_collection(collection, schema=_schema(client, index, cached))
        with tqdm(total=len(index), unit="picture", desc="send") as bar:
            for rows in _rows(index, cached):
                client.insert(collection, rows)
                bar.update(len(rows))
        client.flush(collection)
        params = client.prepare_index_params()
        for space in index.spaces:
            params.add_index(space, **INDEX)
        client.create_index(collection, params)
        client.load_collection(collection)
    return _manifest(index, uri, collection, cached)


def drop(collections: Sequence[Mapping[str, str]]) -> None:
    """Remove collections that no index names any more, where they are still there."""
    for gone in collections:
        with milvus_errors(gone["uri"]):
            client = connect(gone["uri"])
            if client.has_collection(gone["collection"]):
                client.drop_collection(gone["collection"])


def _schema(client: Any, index: Index, cached: bool) -> Any:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name, characters in CHARACTERS.items():
        nullable = name in ("caption", "source", "licence")
        schema.add_field(name, DataType.VARCHAR, max_length=characters, nullable=nullable)
    for name in ("width", "height"):
        schema.add_field(name, DataType.INT32)
    for name in ("bytes", "modified"):
        schema.add_field(name, DataType.INT64, nullable=True)
    schema.add_field("known", DataType.JSON, nullable=True)
    for name, space in index.spaces.items():
        schema.add_field(name, DataType.FLOAT_VECTOR, dim=space.shards[0].shape[1])
    if cached:
        for name, shape in _cache_shapes(index).items():
            width = int(np.prod(shape))
            schema.add_field(name, DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=width)
    return schema


def _rows(index: Index, cached: bool) -> Iterator[list[dict[str, Any]]]:
    space, start = index.space(), 0
    for number, shard in enumerate(space.shards):
        for first in range(0, len(shard), ROWS):
            part = slice(first, min(first + ROWS, len(shard)))
            vectors = {name: np.asarray(other.shards[number][part], np.float32) for name, other in index.spaces.items()}
            if cached:
                vectors["z"] = np.asarray(space.z[number][part], np.float32).reshape(part.stop - first, -1)
                vectors["residual"] = np.asarray(space.residual[number][part], np.float32)
            rows = []
            for place in range(part.stop - first):
                item = index.item(start + first + place)
                known = [_told(thing) for thing in index.objects(item.id)]
                if len(json.dumps(known)) > KNOWN:  # outlines are what is long
                    known = [{**thing, "mask": None} for thing in known][:MOST_KNOWN]
                own = {name: values[place].tolist() for name, values in vectors.items()}
                rows.append({"id": item.id, **_facts(item), "known": known or None, **own})
            yield rows
        start += len(shard)


def _facts(item: Item) -> dict[str, Any]:
    facts = {name: getattr(item, name) for name in ITEM_FIELDS}
    return {name: _fitting(value, CHARACTERS[name]) if name in CHARACTERS else value for name, value in facts.items()}


def _fitting(text: str | None, most: int) -> str | None:
    """A text that is no longer in UTF-8 than a field holds."""
    return None if text is None else text.encode()[:most].decode(errors="ignore")


def _told(thing: Object) -> dict[str, Any]:
    return {**asdict(thing), "box": list(thing.box)}


def _cache_shapes(index: Index) -> dict[str, Sequence[int]]:
    space = index.space()
    return {"z": space.z[0].shape[1:], "residual": space.residual[0].shape[1:]}


def _manifest(index: Index, uri: str, name: str, cached: bool) -> dict[str, Any]:
    spaces: dict[str, Mapping[str, Any]] = {}
    for key, space in index.spaces.items():
        facts = {"encoder": space.encoder, "revision": space.revision, "way": space.recipe}
        cache = {part: list(shape) for part, shape in _cache_shapes(index).items()} if cached and key == "image" else {}
        spaces[key] = {**facts, "probe": space.reference_feature.tolist(), "shape": [space.shards[0].shape[1]], **cache}
    return {
        "format": index.manifest["format"],
        STORE: {"uri": uri, "collection": name},
        "count": len(index),
        "bytes": index.bytes,
        "root": index.manifest["root"],
        "next_id": index.manifest["next_id"],
        "origins": [list(origin) for origin in index.source_counts()],
        "rejected": index.manifest["rejected"],
        "files": {index.manifest["rejected"]: index.manifest["files"][index.manifest["rejected"]]},
        "spaces": spaces,
    }
