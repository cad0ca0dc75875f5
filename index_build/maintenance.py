"""Looking after an index: is every byte what was published, and what may be removed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from foir.errors import BadIndex
from foir.index import Index
from foir.index.format import is_thumb_intact, read_manifest, thumb_name, verify_file
from foir.index.gc import remove_unused
from foir.index.loader import open_index
from foir.index.lock import exclusive_lock
from index_build import milvus_collections
from index_build.shards import PARTIAL


def damages(folder: Path) -> list[str]:
    """Read every byte of an index and name what is not as it was published, a sentence each.

    Raises:
        BadIndex: There is no index, or its manifest is damaged.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            found = _damages(folder, manifest["files"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: rebuild it.") from error
        if not found or read_manifest(folder) == manifest:
            return found  # else it was changed in the meantime, and the files of its old state may be gone


def _damages(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    for name, facts in tqdm(files.items(), "files", unit="file"):
        try:
            verify_file(folder, name, facts)
        except BadIndex as error:
            found.append(str(error))
    if found:
        return found  # without the list of items there are no thumbnails to look for
    index = open_index(folder)
    if not isinstance(index, Index):
        return []  # its rows are looked after by Milvus; opening it counted them
    for digest in tqdm(sorted(index.thumbs()), "thumbnails", unit="file"):
        if not is_thumb_intact(folder, digest):
            found.append(f"The thumbnail {thumb_name(digest)} is missing or damaged: rebuild the index.")
    return found


def gc(folder: Path) -> int:
    """Remove what the index does not hold: an older state's files, a killed build's; returns how many files.

    Raises:
        BadIndex: There is no index, or it is damaged; nothing is removed then.
        Unavailable: It cannot be written, or a build is at work on it.
    """
    open_index(folder)
    with exclusive_lock(folder):
        milvus_collections.drop_unused(folder)
        before = sum(path.is_file() for path in folder.rglob("*"))
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        remove_unused(folder)
        return before - sum(path.is_file() for path in folder.rglob("*"))
