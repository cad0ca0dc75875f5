"""The index on disk: names, schemas, digests. No file is trusted before its digest was checked.

manifest.json               names the spaces, lists every other file by content hash, carries its own digest;
                            the only file that is ever replaced
<hash>.safetensors          a shard of a space's matrix, memory-mapped
<hash>-heads.safetensors    the same rows' CLS head outputs z [n, h, d_k] and residuals [n, d]
<hash>-items.parquet        one row an image, in the order of the matrix
<hash>-objects.parquet      known objects of the images, where there are any
<hash>-rejected.jsonl       files that were left out, with reasons
thumbs/ab/HASH.jpg          named by content; checked when served
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foir.errors import BadIndex, Unavailable, describe_os_error

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES = 64 * 2**20  # a larger file is refused
CONTENT_NAME = re.compile(r"[0-9a-f]{32}(-heads|-items|-objects|-rejected|-thumbs)?\.(safetensors|parquet|jsonl)")
OURS = re.compile(rf"(manifest\.json|{CONTENT_NAME.pattern})(\.\d+(\.\d+)?\.part)?")
OUR_THUMBS = re.compile(r"thumbs/[0-9a-f]{2}/[0-9a-f]{64}\.jpg(\.\d+\.\d+\.part)?")
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
        Unavailable: It cannot be read.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_BYTES + 1)
        manifest: Any = json.loads(data) if len(data) <= MANIFEST_BYTES else None
        intact = isinstance(manifest, dict) and manifest.get("digest") == manifest_digest(manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise BadIndex(f"There is no index at {folder}: it holds no {MANIFEST}.") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise BadIndex(f"The manifest of {folder} is damaged: rebuild the index.") from error
    except OSError as error:
        raise Unavailable(describe_os_error(f"The index {folder} cannot be read", error)) from error
    if not intact:
        raise BadIndex(f"The manifest of {folder} is damaged: its digest does not match.")
    if manifest.get("format") != FORMAT:
        raise BadIndex(f"The index {folder} has format {manifest.get('format')}; this foir reads format {FORMAT}.")
    return dict(manifest)


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def used_files(manifest: Mapping[str, Any]) -> set[str]:
    """Every file that the manifest refers to; each must have a digest in it."""
    spaces = manifest["spaces"].values()
    names = [name for space in spaces for name in (*space["shards"], *space["heads"])]
    return {name for name in (manifest["items"], manifest["objects"], manifest["rejected"], *names) if name is not None}


def thumb_name(digest: str) -> str:
    """Path of a thumbnail in an index."""
    return f"thumbs/{digest[:2]}/{digest}.jpg"


def verify_file(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Check one file against its digest.

    Raises:
        BadIndex: It is missing, damaged, or lies outside the index.
        Unavailable: It cannot be read.
    """
    if Path(name).name != name:
        raise BadIndex(f"The manifest of {folder} names a file outside the index.")
    try:
        actual = digest(folder / name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadIndex(f"The index {folder} lacks its file {name}: rebuild it.") from error
    except OSError as error:
        raise Unavailable(describe_os_error(f"The file {name} of {folder} cannot be read", error)) from error
    if actual != facts["sha256"]:
        raise BadIndex(f"The file {name} of the index {folder} is damaged: rebuild it.")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_thumb_intact(folder: Path, expected: str) -> bool:
    """Whether the thumbnail of this digest exists and has it."""
    try:
        return digest(folder / thumb_name(expected)) == expected
    except OSError:
        return False


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Memory-map the float tensors of a safetensors file; the library itself would copy them into memory.

    One map serves all tensors of a file, since each map holds a file descriptor.
    """
    with path.open("rb") as file:  # read, not mapped: a system can map a whole file around one byte
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("a header longer than its file")
        header: dict[str, Any] = json.loads(file.read(length))
    whole = np.memmap(str(path), np.uint8, "r")  # of a Path, NumPy would resolve every part
    tensors = {}
    for name, facts in header.items():
        if name != "__metadata__":
            start, end = facts["data_offsets"]
            kind = _DTYPES[facts["dtype"]]
            if min(facts["shape"], default=0) < 0:
                raise ValueError("a negative dimension")
            tensors[name] = whole[8 + length + start : 8 + length + end].view(kind).reshape(facts["shape"])
    return tensors
