"""Removing what an index no longer holds; files of other origin are left alone."""

from __future__ import annotations

from pathlib import Path

from foir.index.format import MANIFEST, OUR_THUMBS, OURS, thumb_name
from foir.index.manifest import read_manifest
from foir.index.reader import Index


def remove_unused(folder: Path) -> None:
    """Remove an index's files that its manifest does not name; the caller holds the lock."""
    manifest = read_manifest(folder)
    used = {MANIFEST, *manifest.files}
    for path in folder.iterdir():
        if path.name not in used and OURS.fullmatch(path.name) and path.is_file():
            path.unlink()
    if manifest.store is not None:
        return  # only the rows in the database name the thumbnails
    thumbs = set(map(thumb_name, Index.open(folder).thumbs()))
    for path in (folder / "thumbs").rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in thumbs and OUR_THUMBS.fullmatch(name):
            path.unlink()
