"""One writer at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foir.errors import BadIndex, Unavailable, os_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

POLL = 0.2  # seconds between two looks at a lock file


@contextmanager
def exclusive_lock(folder: Path, *, create: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock of an index's folder.

    On POSIX the folder itself is locked, so that a killed writer leaves nothing behind. Elsewhere a lock file beside
    the folder is; one that a killed writer left has to be removed by hand, and the error names it.

    Args:
        folder: The index.
        create: Create the folder if it does not exist.
        wait: Wait for the writer that holds the lock.

    Raises:
        BadIndex: The folder does not exist.
        Unavailable: Another writer holds the lock, or the folder cannot be written.
    """
    with os_errors(f"The index {folder} cannot be written"):
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise BadIndex(f"There is no index at {folder}.")
        with _flock(folder, wait) if fcntl is not None else _lock_file(folder, wait):
            yield


@contextmanager
def _flock(folder: Path, wait: bool) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise BadIndex(f"There is no index at {folder}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        raise Unavailable(f"Another build is at work on {folder}.") from None
    finally:
        os.close(descriptor)


@contextmanager
def _lock_file(folder: Path, wait: bool) -> Iterator[None]:
    path = folder.resolve().with_name(f"{folder.resolve().name}.lock")
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            if not wait:
                raise Unavailable(
                    f"Another build is at work on {folder}; if none is, remove the lock file {path}."
                ) from None
            time.sleep(POLL)
    try:
        yield
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
