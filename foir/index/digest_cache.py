"""A record of verified files outside the index, so that a large index opens at once.

A file counts as verified while its size, times of change and inode stay the same. A copied or changed file has others
and is hashed again. The record only saves time: where it cannot be written, every file is hashed each time. `verify`
and `update` do not rely on it: a disk can lose a bit without a change of these facts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foir import hub
from foir.errors import BadIndex
from foir.index.format import verify_file
from foir.index.local_record import file_name, is_own, read_json
from foir.index.manifest import FileFacts, Manifest
from foir.index.tensors import check_values
from foir.index.writer import atomic_write

SETTLED = 2.0  # seconds; a file changed later could change again within one tick of the clock and look the same


@contextmanager
def verified_files(folder: Path, manifest: Manifest) -> Iterator[bool]:
    """Hash those of an index's files that are not recorded as verified, and check the numbers in a stranger's.

    They are recorded at the end, unless what is done meanwhile raises an error.

    Yields:
        Whether all were recorded, or written by this machine: then the tables have been read before.

    Raises:
        BadIndex: A file is missing or damaged, or holds numbers that are no features.
    """
    recorded, current, started = read_json(_path, folder), {}, time.time()
    own, known = is_own(folder, manifest), True
    for name, facts in manifest.files.items():
        stamp = _stamp(folder, name, facts)  # before the file is read: a change while it is read shows the next time
        if stamp is None or recorded.get(name) != stamp:
            verify_file(folder, name, facts.sha256)
            if not own:
                known = False
                _check_numbers(folder, name)
        if stamp is not None and started - max(stamp[2:4]) / 1e9 > SETTLED:
            current[name] = stamp
    yield known
    if current != recorded:
        _write(folder, current)


def forget(folder: Path) -> None:
    """Verify every file at the next opening."""
    _write(folder, {})


def _check_numbers(folder: Path, name: str) -> None:
    if not name.endswith(".safetensors"):
        return
    try:
        check_values(folder / name)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise BadIndex(f"The file {name} of the index {folder} holds no features: do not use the index.") from error


def _path(folder: Path) -> Path:
    return hub.cache_folder() / "verified" / file_name(folder)


def _stamp(folder: Path, name: str, facts: FileFacts) -> list[Any] | None:
    try:
        stat = (folder / name).stat()
    except OSError:
        return None
    return [facts.sha256, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _write(folder: Path, stamps: Mapping[str, Any]) -> None:
    try:
        path = _path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(stamps).encode(), durable=False)
    except (OSError, RuntimeError):
        return
