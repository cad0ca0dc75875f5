"""What this machine did for an index, kept outside its folder: the folder itself may come from a stranger.

One JSON file an index in XDG_STATE_HOME/foir (by default ~/.local/state/foir), named by the index's resolved path. It
counts only for the manifests that this machine wrote there, so a folder that somebody puts in the same place, or a
copy of it in another, inherits nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from foir.errors import BadIndex, Unavailable, describe_os_error
from foir.index import writer
from foir.index.manifest import Manifest, read_manifest, signed

MANIFESTS = "manifests"  # key: digests of the manifest in place and of the one that is to replace it
ROOT = "root"  # key: the indexed folder
ASSETS = Path(__file__).resolve().parents[1] / "assets"


def commit(folder: Path, manifest: Manifest, root: Path | None) -> None:
    """Put a manifest in place, the one step that changes an index, and record that this machine did.

    Args:
        folder: The index.
        manifest: Of files that are in place.
        root: The folder of the images, if the index follows one.

    Raises:
        Unavailable: What is recorded of the index cannot be changed. Where nothing is, that is only a warning.
    """
    replaced = []
    with suppress(BadIndex):
        replaced = [read_manifest(folder).digest]
    record = read(folder)
    own = [digest for digest in replaced if digest in record.get(MANIFESTS, [])]
    digests = [*own, signed(manifest)[0].digest]
    record |= {MANIFESTS: digests, ROOT: None if root is None else str(root.resolve())}
    try:
        write(folder, record)  # first: a kill between the two steps leaves both manifests known
    except Unavailable as error:
        if own:
            raise  # else a full disk would cost an index its folder
        warnings.warn(f"{error} Until then the index does not know its folder.", stacklevel=2)
    writer.write_manifest(folder, manifest)


def is_own(folder: Path, manifest: Manifest) -> bool:
    """Whether this machine wrote the manifest in this place, or it came with foir's own code."""
    return folder.resolve().is_relative_to(ASSETS) or _is_own(read(folder), manifest)


def root_of(folder: Path, manifest: Manifest) -> Path | None:
    """The folder of an index's images, if this machine indexed it."""
    record = read(folder)
    root = record.get(ROOT)
    return Path(root) if isinstance(root, str) and _is_own(record, manifest) else None


def _is_own(record: Mapping[str, Any], manifest: Manifest) -> bool:
    manifests = record.get(MANIFESTS)
    return isinstance(manifests, list) and manifest.digest in manifests


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
    except OSError as error:
        raise Unavailable(describe_os_error(f"{folder} cannot be recorded in XDG_STATE_HOME", error)) from error
    except RuntimeError as error:
        raise Unavailable(f"{folder} cannot be recorded: this user has no home, so set XDG_STATE_HOME.") from error


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
