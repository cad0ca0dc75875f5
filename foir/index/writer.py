"""Writing an index: immutable files named by their content, then one manifest that is replaced in one step."""

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
    reference_feature: tuple[float, ...]
    shards: tuple[str, ...]
    heads: tuple[str, ...] = ()
    recipe: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """The space in the manifest, under the keys of the format."""
        facts = asdict(self)
        return facts | {"probe": facts.pop("reference_feature"), "way": facts.pop("recipe")}


def write_vectors(folder: Path, vectors: np.ndarray) -> str:
    """Write a shard of unit vectors [n, dim] as float16; returns its file name."""
    return _write(folder, save({"vectors": _half(vectors)}), ".safetensors")


def write_heads(folder: Path, z: np.ndarray, residual: np.ndarray) -> str:
    """Write the head cache of the same rows, z [n, h, d_k] and residual [n, d], as float16; returns its file name."""
    return _write(folder, save({"z": _half(z), "residual": _half(residual)}), "-heads.safetensors")


def write_thumb(folder: Path, jpeg: bytes) -> str:
    """Write a thumbnail under the digest of its content, which is returned."""
    digest = hashlib.sha256(jpeg).hexdigest()
    path = folder / thumb_name(digest)
    if not path.exists() or path.read_bytes() != jpeg:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, jpeg, durable=False)  # checked when served; thousands of fsyncs cost minutes
    return digest


def write_index(folder: Path, *args: Any, **options: Any) -> None:
    """Write tables and manifest, with the arguments of `build_manifest`: the step from the old index to the new one."""
    write_manifest(folder, build_manifest(folder, *args, **options))


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
    """Write the tables and return the manifest, which makes them the index once it is in place.

    Args:
        folder: The index.
        spaces: Space name to its files, which are written already.
        items: One for each row of every space, in order; a table of their schema for very many.
        rejected: `{"file": ..., "reason": ...}` for each file that was left out.
        root: Path from the index to the indexed folder, or None.
        objects: Known objects of the images.
        next_id: The first id that no image ever had; one more than the largest if left out.
        origin: Address of the copied index that was changed here; see `foir.index.remote`.
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
        "spaces": {name: space.facts for name, space in spaces.items()},
        "files": {name: {"sha256": digest(folder / name)} for name in (*names.values(), *shards) if name},
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest, with its digest: the one step that changes an index."""
    stored = json.loads(json.dumps(manifest))  # the digest is of what a reader will see: lists, not tuples
    stored["digest"] = manifest_digest(stored)
    atomic_write(folder / MANIFEST, json.dumps(stored, indent=1).encode())


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a whole file in one step: a reader sees the old bytes or the new ones."""
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
            part.unlink()  # leave nothing on a full disk
        raise
    if durable and os.name == "posix":  # elsewhere a folder cannot be synced
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
        raise BadIndex("The encoder gave values that float16 cannot hold: no index can be made with it.")
    return half
