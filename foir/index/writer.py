"""Writing an index: immutable files named by their content, then one manifest put in place in one step."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from foir.errors import BadIndex
from foir.index.format import FORMAT, ITEM_SCHEMA, MANIFEST, OBJECT_SCHEMA, digest, manifest_digest, thumb_name
from foir.index.records import Item, Object


@dataclass(frozen=True)
class SpaceFiles:
    """The files of one space and what made them; see `foir.index.Space`."""

    encoder: str
    revision: str
    probe: tuple[float, ...]
    shards: tuple[str, ...]
    heads: tuple[str, ...] = ()
    way: str = ""


def write_vectors(folder: Path, vectors: np.ndarray) -> str:
    """Write a shard of unit vectors [n, dim] as float16; returns its file name."""
    return _write(folder, save({"vectors": _half(vectors)}), ".safetensors")


def write_heads(folder: Path, z: np.ndarray, residual: np.ndarray) -> str:
    """Write the head cache of the same rows, z [n, h, d_k] and residual [n, d], as float16; returns its file name."""
    return _write(folder, save({"z": _half(z), "residual": _half(residual)}), "-heads.safetensors")


def write_thumb(folder: Path, jpeg: bytes) -> str:
    """Write a thumbnail under its content's name; returns the digest."""
    digest = hashlib.sha256(jpeg).hexdigest()
    path = folder / thumb_name(digest)
    if not path.exists() or path.read_bytes() != jpeg:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, jpeg, durable=False)  # checked when served, and thousands of fsyncs cost minutes
    return digest


def write_index(folder: Path, *given: Any, **how: Any) -> None:
    """Write items, rejected files and the manifest, as `described` takes them: from then on the index is another."""
    write_manifest(folder, build_manifest(folder, *given, **how))


def build_manifest(
    folder: Path,
    spaces: Mapping[str, SpaceFiles],
    items: Sequence[Item] | pa.Table,
    rejected: Sequence[Mapping[str, str]],
    root: str | None,
    objects: Sequence[Object] = (),
    *,
    next_id: int | None = None,
    origin: str | None = None,
) -> dict[str, Any]:
    """Write items and rejected files; returns the manifest, which makes them the index when it is put in place.

    Args:
        folder: The index.
        spaces: Space name to the files already written.
        items: One for each row of every space, in order; of very many a table of their schema.
        rejected: `{"file": ..., "reason": ...}` for what was left out.
        root: Path from the index to the indexed folder, or None.
        objects: Known objects of the pictures.
        next_id: The first id that no picture ever had; if left out, the one after the largest.
        origin: Where a copy came from that was changed here; see `foir.index.remote`.
    """
    if next_id is None:
        ids = items["id"].to_numpy() if isinstance(items, pa.Table) else [item.id for item in items]
        next_id = 1 + int(max(ids, default=-1))
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rejected)
    names = {
        "items": _write(folder, _parquet(items, ITEM_SCHEMA), "-items.parquet"),
        "objects": _write(folder, _parquet(objects, OBJECT_SCHEMA), "-objects.parquet") if objects else None,
        "rejected": _write(folder, lines.encode(), "-rejected.jsonl"),
    }
    shards = [name for space in spaces.values() for name in (*space.shards, *space.heads)]
    return {
        "format": FORMAT,
        **names,
        "root": root,
        "next_id": next_id,
        **({"origin": origin, "changed": True} if origin else {}),
        "spaces": {name: asdict(space) for name, space in spaces.items()},
        "files": {name: {"sha256": digest(folder / name)} for name in (*names.values(), *shards) if name},
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest in place, with its digest: the step from the index that was to the one that it describes."""
    seen = json.loads(json.dumps(manifest))  # the digest is of what a reader will see: lists, not tuples
    seen["digest"] = manifest_digest(seen)
    atomic_write(folder / MANIFEST, json.dumps(seen, indent=1).encode())


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put a whole file in place in one step: a reader sees the old one or the new one."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()  # of a full disk not even the beginning should be kept
        raise
    if durable:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(folder: Path, data: bytes, suffix: str) -> str:
    name = hashlib.sha256(data).hexdigest()[:32] + suffix
    atomic_write(folder / name, data)
    return name


def _parquet(rows: Sequence[Item] | Sequence[Object] | pa.Table, schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadIndex("The encoder gave values that float16 cannot hold, so no index can be made from it.")
    return half
