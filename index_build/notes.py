"""Notes beside the unfinished shards of a build, for the build that resumes it; they go when the index is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foir.index import writer

from .shards import PARTIAL


def read_note(out: Path, name: str, key: Any) -> Any:
    """What a killed build of the index `out` noted under a name, if for the same key; None where there is nothing."""
    try:
        known, value = json.loads((out / PARTIAL / name).read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return value if known == key else None


def write_note(out: Path, name: str, key: Any, value: Any) -> None:
    """Keep a value for a key, both of JSON. The index is locked."""
    (out / PARTIAL).mkdir(parents=True, exist_ok=True)
    writer.atomic_write(out / PARTIAL / name, json.dumps([key, value]).encode())
