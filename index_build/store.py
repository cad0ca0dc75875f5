"""The interface of stores. A store keeps the rows of a built index: in its files, or in a database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from foir.index import writer


class Store(Protocol):
    """Where the rows of an index are kept."""

    def commit(self, out: Path, manifest: Mapping[str, Any]) -> None:
        """Publish a built index in one step. Readers see the old index until then.

        Args:
            out: The index.
            manifest: Of its files; see `foir.index.writer.build_manifest`.

        Raises:
            Unavailable: The store does not accept it.
        """


class FileStore:
    """Keeps the rows in the files of the index."""

    def commit(self, out: Path, manifest: Mapping[str, Any]) -> None:
        """Write the manifest; see `Store.commit`."""
        writer.write_manifest(out, manifest)
