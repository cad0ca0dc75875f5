"""What this machine did for an index, kept outside its folder: the folder itself may come from a stranger.

One JSON file an index in XDG_STATE_HOME/foir (by default ~/.local/state/foir), named by the index's resolved path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foir.errors import Unavailable
from foir.index import writer


def read(folder: Path) -> dict[str, Any]:
    """The record of an index; empty where there is none, or none that can be read."""
    return read_json(_path, folder)


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace the record of an index.

    Raises:
        Unavailable: The state folder cannot be written.
    """
    try:
        path = _path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.atomic_write(path, json.dumps(record).encode())
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"The state of {folder} cannot be recorded: {error}. Set XDG_STATE_HOME.") from error


def _path(folder: Path) -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "foir" / "indexes" / file_name(folder)


def file_name(folder: Path) -> str:
    """The name of a file about an index that is kept outside it."""
    return f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.json"


def read_json(path_of: Callable[[Path], Path], folder: Path) -> dict[str, Any]:
    """The JSON object in a file about an index; empty where there is none, or none that can be read."""
    try:
        record = json.loads(path_of(folder).read_bytes())
    except (OSError, RuntimeError, ValueError, RecursionError):  # RuntimeError: this user has no home
        return {}
    return record if isinstance(record, dict) else {}
