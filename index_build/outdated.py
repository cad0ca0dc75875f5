"""Which files of an index's folder are new, or are no longer what was indexed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from foir.index import Index, Item
from foir.index.format import digest, is_thumb_intact


def outdated(
    index: Index, items: Sequence[Item], root: Path, names: Sequence[str], *, check: bool = False
) -> list[tuple[int, str]]:
    """(id, name) of the changed files, then of the new ones, which get ids that were never used before."""
    known = {item.file: item for item in items}
    old = [(name, known[name]) for name in names if name in known]
    changed = [
        (item.id, name)
        for name, item in old
        if _differs(root / name, item) or (check and _is_damaged(index, root / name, item))
    ]
    new = [name for name in names if name not in known]
    return [*changed, *zip(count(next_unused_id(index, items)), new, strict=False)]


def next_unused_id(index: Index, items: Sequence[Item]) -> int:
    """The first id that no image ever had."""
    known = index.manifest.next_id  # indexes of earlier versions have none
    return known if known is not None else 1 + max(item.id for item in items)


def _differs(path: Path, item: Item) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return True  # reading it again rejects it with the reason
    return (item.bytes, item.modified) != (stat.st_size, stat.st_mtime_ns)


def _is_damaged(index: Index, path: Path, item: Item) -> bool:
    """Whether a file's bytes are not those that were encoded, or its thumbnail is damaged."""
    try:
        return digest(path) != item.content or not is_thumb_intact(index.folder, item.thumb)
    except OSError:
        return True
