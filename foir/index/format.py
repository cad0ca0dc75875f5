"""The index on disk: names, schemas, digests. Nothing in a file is believed before its digest was checked.

manifest.json               names the spaces, lists every other file by content hash, carries its own digest;
                            the only file that is ever replaced
<hash>.safetensors          a shard of a space's matrix, memory-mapped
<hash>-heads.safetensors    the same rows' CLS head outputs z [n, h, d_k] and residuals [n, d]
<hash>-items.parquet        one row a picture, in the matrix's order
<hash>-objects.parquet      known objects of the pictures, where there are any
<hash>-rejected.jsonl       what was left out and why
thumbs/ab/HASH.jpg          named by content; checked when served
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foir.errors import BadIndex

FORMAT = 1
MANIFEST = "manifest.json"
ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("file", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("caption", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("thumb", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
    ]
)
OBJECT_SCHEMA = pa.schema(
    [
        ("item", pa.int64()),
        ("box", pa.list_(pa.float32(), 4)),
        ("mask", pa.string()),
        ("category", pa.string()),
        ("instance", pa.string()),
        ("name", pa.string()),
        ("source", pa.string()),
    ]
)
_DTYPES = {"F16": np.float16, "F32": np.float32}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `manifest.json`.

    Raises:
        BadIndex: It is missing, damaged, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        intact = isinstance(manifest, dict) and manifest.get("digest") == manifest_digest(manifest)
    except FileNotFoundError:
        raise BadIndex(f"There is no index at {folder}: it holds no {MANIFEST}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadIndex(f"The manifest of {folder} is damaged: rebuild the index.") from error
    if not intact:
        raise BadIndex(f"The manifest of {folder} is damaged: its digest does not match.")
    if manifest.get("format") != FORMAT:
        raise BadIndex(f"The index {folder} has format {manifest.get('format')}; this foir reads format {FORMAT}.")
    return manifest


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def used_files(manifest: Mapping[str, Any]) -> set[str]:
    """Every file the manifest opens; each must have a digest in it."""
    spaces = manifest["spaces"].values()
    names = [name for space in spaces for name in (*space["shards"], *space["heads"])]
    return {name for name in (manifest["items"], manifest["objects"], manifest["rejected"], *names) if name is not None}


def thumb_name(digest: str) -> str:
    """Where a thumbnail lies in an index."""
    return f"thumbs/{digest[:2]}/{digest}.jpg"


def verify(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Check one file against its digest.

    Raises:
        BadIndex: It is missing, damaged, or lies outside the index.
    """
    if Path(name).name != name:
        raise BadIndex(f"The manifest of {folder} names a file outside the index.")
    try:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadIndex(f"The index {folder} lacks its file {name}: rebuild it.") from error
    if digest != facts["sha256"]:
        raise BadIndex(f"The file {name} of the index {folder} is damaged: rebuild it.")


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Memory-map the float tensors of a safetensors file; the library itself would copy them into memory."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return {
        name: _map(path, 8 + length + facts["data_offsets"][0], facts["dtype"], facts["shape"])
        for name, facts in header.items()
        if name != "__metadata__"
    }


def _map(path: Path, offset: int, dtype: str, shape: Sequence[int]) -> np.ndarray:
    return np.memmap(path, _DTYPES[dtype], "r", offset, tuple(shape))
