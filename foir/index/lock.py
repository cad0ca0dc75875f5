"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foir.errors import BadIndex, Unavailable


@contextmanager
def exclusive_lock(out: Path, *, create: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold an index's folder itself locked; a lock file could be left behind, this cannot.

    With `make` it is made where there is none; a `patient` one waits for its turn.

    Raises:
        BadIndex: There is no such folder.
        Unavailable: Somebody else holds it, or it cannot be written.
    """
    try:
        if create:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"The index {out} cannot be written: {error.strerror or error}.") from error
    try:
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise BadIndex(f"There is no index at {out}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        raise Unavailable(f"Another build is at work on {out}.") from None
    except OSError as error:
        raise Unavailable(f"The index {out} cannot be written: {error.strerror or error}.") from error
    finally:
        os.close(descriptor)
