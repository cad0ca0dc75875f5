"""The interface of stores. A store keeps the rows of a built index: in its files, or in a database."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from foir.index.manifest import Manifest


class Store(Protocol):
    """Where the rows of an index are kept."""

    def keep(self, out: Path, manifest: Manifest) -> Manifest:
        """Take the rows of a built index. Readers see the old index until the returned manifest is in place.

        Args:
            out: The index.
            manifest: Of its files; see `foir.index.writer.build_manifest`.

        Returns:
            The manifest of the index whose rows are kept there.

        Raises:
            Unavailable: The store does not accept them.
        """

    def finish(self, out: Path) -> None:
        """Called once the manifest is in place."""


class FileStore:
    """Keeps the rows in the files of the index."""

    def keep(self, out: Path, manifest: Manifest) -> Manifest:
        """The same manifest; see `Store.keep`."""
        return manifest

    def finish(self, out: Path) -> None:
        """Nothing is left to do."""
