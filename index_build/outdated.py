"""Which files of an index's folder are new, or are no longer what was indexed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from foir import images
from foir.errors import BadImage
from foir.index import Index, Item, writer
from foir.index.format import digest, is_thumb_intact
from foir.index.pictures import read_file
from foir.videos import split_key

from . import pipeline
from .decoding import item_facts
from .stamps import stamp_of


def refreshed(index: Index, root: Path, names: Collection[str], *, check: bool = False) -> list[Item]:
    """The items of an index, with the current size and time where a file still has the bytes that were indexed.

    A file that was copied or touched is read once, and need not be encoded again. Where the index holds no facts of a
    file, since it was published or is of format 1, the file counts as the indexed one.

    Args:
        index: The index.
        root: Its folder.
        names: The files to look at.
        check: Read all of them, whatever their size and time say, write damaged thumbnails again, and take in what
            photos say about themselves where an earlier foir did not.
    """
    wanted, content = set(names), cache(digest)  # the frames of a video share its bytes
    return [
        _refresh(index, root / item.file, item, check, content) if item.key in wanted else item
        for item in index.items()
    ]


def _refresh(index: Index, path: Path, item: Item, check: bool, content_of: Callable[[Path], str]) -> Item:
    try:
        stamps = stamp_of(path)
        is_stamped = stamps == (item.bytes, item.modified)
        if is_stamped and not check:
            return item
        content = content_of(path)
        is_unknown = item.content is None and (item.bytes is None or is_stamped)
        if content != item.content and not is_unknown:
            return replace(item, modified=None)  # it differs, also where size and time are the old ones
        thumb, facts = item.thumb, dict[str, Any]()
        is_new = item.taken_from is None  # of a foir that did not read what photos say about themselves
        if check and (is_new or not is_thumb_intact(index.folder, thumb)):
            photo = read_file(path, item.time)
            if photo.content not in (content, None):
                return replace(item, modified=None)
            facts = item_facts(photo.facts, stamps[1]) if is_new else {}
            thumb = writer.write_thumb(index.folder, images.thumbnail(photo.image, pipeline.Plan.thumb_side))
            writer.sync_thumbs(index.folder, [thumb])
    except (OSError, BadImage):
        return replace(item, modified=None)  # reading it again rejects it with the reason
    return replace(item, bytes=stamps[0], modified=stamps[1], content=content, thumb=thumb, **facts)


def follow_moves(items: Sequence[Item], root: Path, names: Collection[str], missing: Collection[str]) -> list[Item]:
    """The items of an index, with the new names of files that were renamed or moved within the folder.

    A new file with the bytes of a missing one is that file. Only files of the size of a missing one are read.

    Args:
        items: Of the index.
        root: Its folder.
        names: The files of the folder now.
        missing: The items' files that are no longer there.
    """
    known = {item.key for item in items}
    lost: dict[tuple[int | None, float | None, str | None], list[str]] = defaultdict(list)
    for item in items:
        if item.key in missing and item.content is not None:
            lost[item.bytes, item.time, item.content].append(item.key)
    content_of = cache(digest)
    sizes, moved = {size for size, *_ in lost}, dict[str, tuple[str, int]]()
    for key in sorted(set(names) - known):
        name, time = split_key(key)
        with suppress(OSError):  # encoding it rejects it with the reason
            size, modified = stamp_of(root / name)
            if size in sizes and (old := lost.get((size, time, content_of(root / name)))):
                moved[old.pop(0)] = name, modified
    return [
        replace(item, file=moved[item.key][0], modified=moved[item.key][1]) if item.key in moved else item
        for item in items
    ]


def outdated(index: Index, items: Sequence[Item], root: Path, names: Sequence[str]) -> list[tuple[int, str]]:
    """(id, name) of the changed files, then of the new ones, which get ids that were never used before."""
    known = {item.key: item for item in items}
    changed = [
        (known[name].id, name) for name in names if name in known and _differs(root / known[name].file, known[name])
    ]
    new = [name for name in names if name not in known]
    return [*changed, *zip(count(next_unused_id(index, items)), new, strict=False)]


def next_unused_id(index: Index, items: Sequence[Item]) -> int:
    """The first id that no image ever had."""
    known = index.manifest.next_id  # indexes of earlier versions have none
    return known if known is not None else 1 + max(item.id for item in items)


def _differs(path: Path, item: Item) -> bool:
    try:
        return (item.bytes, item.modified) != stamp_of(path)
    except OSError:
        return True  # reading it again rejects it with the reason
