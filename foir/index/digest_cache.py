"""A record of verified files outside the index, so that a large index opens at once.

A file counts as verified while its size, times of change and inode stay the same. A copied or changed file has others
and is hashed again. The record only saves time: where it cannot be written, every file is hashed each time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foir import hub
from foir.index.format import verify_file
from foir.index.local_record import file_name, read_json
from foir.index.writer import atomic_write

SETTLED = 2.0  # seconds; a file changed later could change again within one tick of the clock and look the same


def verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Hash those of an index's files that are not recorded as verified.

    Args:
        folder: The index.
        files: From its manifest, name to `{"sha256": ...}`.

    Raises:
        BadIndex: A file is missing, damaged, or lies outside the index.
    """
    recorded, current, started = read_json(_path, folder), {}, time.time()
    for name, facts in files.items():
        stamp = _stamp(folder, name, facts)  # before the file is read: a change while it is read shows the next time
        if stamp is None or recorded.get(name) != stamp:
            verify_file(folder, name, facts)
        if stamp is not None and started - max(stamp[2:4]) / 1e9 > SETTLED:
            current[name] = stamp
    if current != recorded:
        _write(folder, current)


def _path(folder: Path) -> Path:
    return hub.cache_folder() / "verified" / file_name(folder)


def _stamp(folder: Path, name: str, facts: Mapping[str, Any]) -> list[Any] | None:
    if Path(name).name != name:
        return None
    try:
        stat = (folder / name).stat()
    except OSError:
        return None
    return [facts["sha256"], stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _write(folder: Path, stamps: Mapping[str, Any]) -> None:
    try:
        path = _path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(stamps).encode(), durable=False)
    except (OSError, RuntimeError):
        return
