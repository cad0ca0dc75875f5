"""Size and time of files, by which an update knows whether one changed."""

from __future__ import annotations

from pathlib import Path

MAX_TIME = 2**63 - 1  # nanoseconds, as the table of images keeps them


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds, within what an index can keep.

    Raises:
        OSError: There is no such file, or it cannot be looked at.
    """
    facts = path.stat()
    return facts.st_size, max(-MAX_TIME, min(facts.st_mtime_ns, MAX_TIME))
