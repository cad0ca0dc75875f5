"""Removing what an index no longer holds; files that are not of its making are left alone."""

from __future__ import annotations

from pathlib import Path

from foir.index.format import MANIFEST, OUR_THUMBS, OURS, read_manifest, thumb_name
from foir.index.reader import STORE, Index


def remove_unused(out: Path) -> None:
    """Remove an index's files that its manifest does not name; the caller holds it locked."""
    manifest = read_manifest(out)
    kept = {MANIFEST, *manifest["files"]}
    for path in out.iterdir():
        if path.name not in kept and OURS.fullmatch(path.name) and path.is_file():
            path.unlink()
    if STORE in manifest:
        return  # which thumbnails it names, only its rows know
    thumbs = set(map(thumb_name, Index.open(out).thumbs()))
    for path in (out / "thumbs").rglob("*"):
        name = path.relative_to(out).as_posix()
        if name not in thumbs and OUR_THUMBS.fullmatch(name):
            path.unlink()
