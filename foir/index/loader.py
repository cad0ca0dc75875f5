"""Opening an index by its address, whether its rows are in files or in a database."""

from __future__ import annotations

from pathlib import Path

from foir.index.manifest import read_manifest
from foir.index.protocol import IndexLike
from foir.index.reader import Index
from foir.index.remote import local_copy


def open_index(address: str | Path) -> IndexLike:
    """Open a folder or `hf://datasets/USER/NAME[@REVISION]`.

    Raises:
        BadIndex: See `Index.open`.
        Unavailable: See `foir.index.remote.local_copy`; or Milvus, which holds the rows, does not answer.
    """
    folder = local_copy(address)
    if read_manifest(folder).store is not None:
        from foir.index.milvus import MilvusIndex

        return MilvusIndex.open(folder)
    return Index.open(folder)
