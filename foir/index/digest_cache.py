"""What was verified on this machine already: a record outside the index, so that a large one opens at once.

A file is taken for what it was when its size, times of change and inode still are what they were. A copied or changed
file has others and is verified whole again. The record saves time only; where it cannot be kept, everything is
verified each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foir import hub
from foir.index import writer
from foir.index.format import verify_file

SETTLED = 2.0  # seconds; what changed later could change again within one tick of the clock and look the same


def verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Verify those of an index's files that are not known to be whole.

    Args:
        folder: The index.
        files: From its manifest, name to `{"sha256": ...}`.

    Raises:
        BadIndex: One of them is missing, damaged, or lies outside the index.
    """
    known, now, started = _read(folder), {}, time.time()
    for name, facts in files.items():
        stamp = _stamp(folder, name, facts)  # before the file is read: a change while it is read shows the next time
        if stamp is None or known.get(name) != stamp:
            verify_file(folder, name, facts)
        if stamp is not None and started - max(stamp[2:4]) / 1e9 > SETTLED:
            now[name] = stamp
    if now != known:
        _write(folder, now)


def _file(folder: Path) -> Path:
    return hub.cache_folder() / "verified" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.json"


def _stamp(folder: Path, name: str, facts: Mapping[str, Any]) -> list[Any] | None:
    if Path(name).name != name:
        return None
    try:
        stat = (folder / name).stat()
    except OSError:
        return None
    return [facts["sha256"], stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(_file(folder).read_bytes())
    except (OSError, RuntimeError, ValueError, RecursionError):  # RuntimeError: this user has no home
        return {}
    return known if isinstance(known, dict) else {}


def _write(folder: Path, stamps: Mapping[str, Any]) -> None:
    try:
        path = _file(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.atomic_write(path, json.dumps(stamps).encode(), durable=False)
    except (OSError, RuntimeError):
        return
