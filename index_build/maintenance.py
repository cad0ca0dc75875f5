"""Maintenance of an index: verifying every byte, and removing unused files."""

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

from .backends import drop_unused_rows
from .shards import PARTIAL


def find_damage(folder: Path) -> list[str]:
    """Read every byte of an index and describe each damage in a sentence.

    Raises:
        BadIndex: There is no index, or its manifest is damaged.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            damage = _find_damage(folder, manifest["files"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: rebuild it.") from error
        if not damage or read_manifest(folder) == manifest:
            return damage  # else the index was changed in the meantime, and files of its old state may be gone


def _find_damage(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    damage = []
    for name, facts in tqdm(files.items(), "files", unit="file"):
        try:
            verify_file(folder, name, facts)
        except BadIndex as error:
            damage.append(str(error))
    if damage:
        return damage  # the thumbnails are listed in the items, which may be damaged
    index = open_index(folder)
    if not isinstance(index, Index):
        return []  # the database keeps its rows intact; opening the index counted them
    for digest in tqdm(sorted(index.thumbs()), "thumbnails", unit="file"):
        if not is_thumb_intact(folder, digest):
            damage.append(f"The thumbnail {thumb_name(digest)} is missing or damaged: rebuild the index.")
    return damage


def gc(folder: Path) -> int:
    """Remove what only older states of the index or killed builds used; returns the number of removed files.

    Raises:
        BadIndex: There is no index, or it is damaged. Nothing is removed then.
        Unavailable: It cannot be written, or a build is running.
    """
    open_index(folder)
    with exclusive_lock(folder):
        drop_unused_rows(folder)
        before = sum(path.is_file() for path in folder.rglob("*"))
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        remove_unused(folder)
        return before - sum(path.is_file() for path in folder.rglob("*"))
