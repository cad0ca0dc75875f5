"""The Milvus collections that this machine made for an index, recorded outside the index: no others are dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from foir.errors import BadIndex
from foir.index import local_record
from foir.index.manifest import Store, read_manifest
from foir.index.milvus import connect, milvus_errors

CREATED = "collections"  # key of the record: every collection made for the index and not dropped yet
SENDING = "sending"  # key of the record: the collection that a build fills, or was killed while it filled


def begin(out: Path, uri: str) -> Store:
    """Record a new collection before it is created, and drop what a killed build left of one.

    Args:
        out: The index.
        uri: Of Milvus.

    Returns:
        The URI and the name of the collection, as the manifest keeps them.

    Raises:
        Unavailable: Milvus does not answer.
    """
    record, current = local_record.read(out), _current(out)
    unfinished, created = record.get(SENDING), record.get(CREATED, [])
    if unfinished is not None and unfinished == current:
        created = [*created, unfinished]  # the build was killed after the manifest named it
    elif unfinished is not None:
        _drop([unfinished])
    if current not in created:
        created = []  # the index that was here was moved, and its rows with it: they are no longer ours to drop
    sending = {"uri": uri, "collection": f"foir_{uuid4().hex}"}
    local_record.write(out, record | {CREATED: created, SENDING: sending})
    return Store(**sending)


def finish(out: Path) -> None:
    """Note that the manifest in place names the collection that was filled."""
    record = local_record.read(out)
    if SENDING in record:
        created = [*record.get(CREATED, []), record.pop(SENDING)]
        local_record.write(out, record | {CREATED: created})


def drop_unused(out: Path) -> None:
    """Drop the collections that this machine made for an index and that its manifest does not name.

    Raises:
        Unavailable: Milvus does not answer.
    """
    record, current = local_record.read(out), _current(out)
    created = [*record.get(CREATED, []), *([record[SENDING]] if SENDING in record else [])]
    unused = [collection for collection in created if collection != current]
    if unused:
        _drop(unused)
        rest = {key: value for key, value in record.items() if key not in (CREATED, SENDING)}
        local_record.write(out, rest | {CREATED: [collection for collection in created if collection == current]})


def _drop(collections: Sequence[Mapping[str, str]]) -> None:
    """Drop collections that still exist."""
    for unused in collections:
        with milvus_errors(unused["uri"]):
            client = connect(unused["uri"])
            if client.has_collection(unused["collection"]):
                client.drop_collection(unused["collection"])


def _current(out: Path) -> Any:
    """The collection that the index's manifest names, or None."""
    with suppress(BadIndex):
        store = read_manifest(out).store
        return store.model_dump() if store else None
    return None
