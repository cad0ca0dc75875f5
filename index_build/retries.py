"""Files that could not be read: an update tries one again only when it changed, or when foir reads more kinds now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any

from foir.errors import Unavailable
from foir.image_formats import installed_extras
from foir.index import local_record

# Reasons that may be gone the next time, though the file is the same.
_PASSING = re.compile("cannot be opened|cannot be listed|takes more than|takes too much memory|makes the decoder")
REJECTED, EXTRAS = "rejected", "extras"  # keys of the record of an index: name to [size, times], and what read them


def known_rejections(
    out: Path, root: Path, entries: Sequence[dict[str, str]], names: Iterable[str]
) -> list[dict[str, str]]:
    """The entries of files that are what they were when they were rejected.

    Args:
        out: The index.
        root: Its folder.
        entries: What the index lists as left out.
        names: The files of the folder now.
    """
    record, present = local_record.read(out), set(names)
    stamps: Any = record.get(REJECTED)
    if not isinstance(stamps, Mapping) or record.get(EXTRAS) != installed_extras():
        return []
    return [
        entry
        for entry in entries
        if entry["file"] in present and (stamp := stamps.get(entry["file"])) and stamp == _stamp(root / entry["file"])
    ]


def remember_rejections(out: Path, root: Path, entries: Iterable[dict[str, str]]) -> None:
    """Note what the files that were rejected are now. Where that is not possible they are tried again."""
    lasting = [entry for entry in entries if not _PASSING.search(entry["reason"])]
    stamps = {entry["file"]: _stamp(root / entry["file"]) for entry in lasting}
    record = local_record.read(out)
    known = {name: stamp for name, stamp in stamps.items() if stamp}
    news = {REJECTED: known, EXTRAS: installed_extras()}
    if any(record.get(key) != value for key, value in news.items()) and (known or REJECTED in record):
        with suppress(Unavailable):
            local_record.write(out, record | news)


def _stamp(path: Path) -> list[int] | None:
    """Size and times of a file; None of what is no file, such as a folder that could not be listed."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] if S_ISREG(stat.st_mode) else None
