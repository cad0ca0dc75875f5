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
from foir.index.milvus_client import connect, milvus_errors

CREATED = "collections"  # key of the record: every store made for the index and not dropped yet
SENDING = "sending"  # key of the record: the store that a build fills, or was killed while it filled


def begin(out: Path, uri: str, *, with_regions: bool) -> Store:
    """Record new collections before they are created, and drop what a killed build left of such.

    Args:
        out: The index.
        uri: Of Milvus.
        with_regions: The index has regions, which get a collection of their own.

    Returns:
        The URI and the names of the collections, as the manifest keeps them.

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
    name = f"foir_{uuid4().hex}"
    store = Store(uri=uri, collection=name, regions=f"{name}_regions" if with_regions else None)
    local_record.write(out, record | {CREATED: created, SENDING: _facts(store)})
    return store


def finish(out: Path) -> None:
    """Note that the manifest in place names the collections that were filled."""
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
    unused = [store for store in created if store != current]
    if unused:
        _drop(unused)
        rest = {key: value for key, value in record.items() if key not in (CREATED, SENDING)}
        local_record.write(out, rest | {CREATED: [store for store in created if store == current]})


def _drop(stores: Sequence[Mapping[str, str]]) -> None:
    """Drop the collections of stores that still exist."""
    for unused in stores:
        with milvus_errors(unused["uri"]):
            client = connect(unused["uri"])
            for name in filter(None, (unused["collection"], unused.get("regions"))):
                if client.has_collection(name):
                    client.drop_collection(name)


def _current(out: Path) -> Any:
    """The store that the index's manifest names, or None."""
    with suppress(BadIndex):
        store = read_manifest(out).store
        return _facts(store) if store else None
    return None


def _facts(store: Store) -> dict[str, str]:
    """A store as the record keeps it; one without regions as before there were any."""
    return store.model_dump(exclude_none=True)
