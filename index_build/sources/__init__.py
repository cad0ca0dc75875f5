"""Image sources: a folder, files or parquet tables on any storage, an Immich server, data sets of the Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .base import Chunk, Metadata, Source, SourceImage
from .folder import FolderSource, open_folder
from .fsspec_source import open_pattern
from .hub_datasets import open_hub_dataset
from .immich import open_immich

__all__ = ["Chunk", "Metadata", "Source", "SourceImage", "open_source"]

# Each opens the addresses of its own kind and returns None for all others. The first match wins.
OPENERS: tuple[Callable[[str, Path], Source | None], ...] = (open_hub_dataset, open_folder, open_immich, open_pattern)


def open_source(address: str, out: Path) -> Source:
    """Open a source of images.

    Args:
        address: A folder; a pattern of image files or of .parquet tables, also on remote storage
            ("s3://bucket/**/*.jpg"); "immich://HOST"; or "hf://datasets/USER/NAME[@REVISION]".
        out: The index to build, which is skipped where it lies inside the folder.

    Raises:
        Unavailable: It does not exist, cannot be reached, or its tables have no image column.
    """
    for open_address in OPENERS:
        source = open_address(address, out)
        if source is not None:
            return source
    return FolderSource(Path(address), out)  # raises: there is no such folder
