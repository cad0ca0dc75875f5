"""The Milvus collections that this machine made for an index: recorded outside it, so that nothing else is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from foir.errors import BadIndex
from foir.index import Index, local_record
from foir.index.format import read_manifest
from foir.index.reader import STORE

MADE = "collections"  # key of the record: every collection made for the index and not dropped yet
SENDING = "sending"  # key of the record: the collection that a build fills, or was killed while it filled


def send(out: Path, manifest: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """Keep the rows of an index in a new collection; what a killed build left of one is dropped first.

    Args:
        out: The index.
        manifest: Of its files.
        uri: Of Milvus.

    Returns:
        The manifest of an index that is kept there.

    Raises:
        Unavailable: Milvus does not take it.
    """
    from index_build import milvus_store

    record = local_record.read(out)
    left, made = record.get(SENDING), record.get(MADE, [])
    if left is not None and left == _current(out):
        made = [*made, left]  # it was killed after the manifest named it
    elif left is not None:
        milvus_store.drop([left])
    sending = {"uri": uri, "collection": f"foir_{uuid4().hex}"}
    local_record.write(out, record | {MADE: made, SENDING: sending})
    return milvus_store.send(Index.of(out, manifest), **sending)


def drop_unused(out: Path) -> None:
    """Drop the collections that this machine made for an index and that its manifest does not name.

    Raises:
        Unavailable: Milvus does not answer.
    """
    record, current = local_record.read(out), _current(out)
    made = [*record.get(MADE, []), *([record[SENDING]] if SENDING in record else [])]
    unused = [collection for collection in made if collection != current]
    if not unused:
        return
    from index_build import milvus_store

    milvus_store.drop(unused)
    rest = {key: value for key, value in record.items() if key not in (MADE, SENDING)}
    local_record.write(out, rest | {MADE: [collection for collection in made if collection == current]})


def _current(out: Path) -> Any:
    """The collection that the index's manifest names; None where it names none."""
    with suppress(BadIndex):
        return read_manifest(out).get(STORE)
    return None
