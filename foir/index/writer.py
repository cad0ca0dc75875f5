"""Writing an index: immutable files named by their content, then one manifest that is replaced in one step."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from foir.errors import BadIndex
from foir.index import tables
from foir.index.format import (
    BOX,
    FORMAT,
    ITEM_SCHEMA,
    MANIFEST,
    OBJECT_SCHEMA,
    damaged,
    digest,
    has_linked_thumbs,
    is_thumb_intact,
    thumb_name,
)
from foir.index.manifest import FileFacts, Manifest, RegionFacts, SpaceFacts, signed
from foir.index.records import Item, Object

SYNC_THREADS = 8


def write_vectors(folder: Path, vectors: np.ndarray) -> str:
    """Write a shard of unit vectors [n, dim] as float16; returns its file name."""
    return _write(folder, save({"vectors": _half(vectors)}), ".safetensors")


def write_heads(folder: Path, z: np.ndarray, residual: np.ndarray) -> str:
    """Write the head cache of the same rows, z [n, h, d_k] and residual [n, d], as float16; returns its file name."""
    return _write(folder, save({"z": _half(z), "residual": _half(residual)}), "-heads.safetensors")


def write_regions(folder: Path, vectors: np.ndarray, boxes: np.ndarray, starts: np.ndarray) -> str:
    """Write the regions of the same rows; see `foir.index.records.Regions`. Returns the file name."""
    tensors = {"vectors": _half(vectors), "boxes": boxes.astype(np.uint16), "starts": starts.astype(np.int32)}
    return _write(folder, save(tensors), "-regions.safetensors")


def write_thumb(folder: Path, jpeg: bytes) -> str:
    """Write a thumbnail under the digest of its content, which is returned; see `sync_thumbs`."""
    digest = hashlib.sha256(jpeg).hexdigest()
    path = folder / thumb_name(digest)
    if has_linked_thumbs(folder) or path.parent.is_symlink():
        raise BadIndex(f"The thumbnails of {folder} are a link to another folder: remove the link.")
    if not is_thumb_intact(folder, digest):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, jpeg, durable=False)
    return digest


def sync_thumbs(folder: Path, digests: Iterable[str]) -> None:
    """Make thumbnails survive a power cut, many at once: one sync each, in threads, takes far less time."""
    paths = [folder / thumb_name(digest) for digest in dict.fromkeys(digests)]
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(sync_file, paths):
            pass
        for _ in pool.map(_sync_folder, {path.parent for path in paths}):
            pass
    for parent in (folder / "thumbs", folder) if paths else ():
        _sync_folder(parent)


def build_manifest(
    folder: Path,
    spaces: Mapping[str, SpaceFacts],
    items: Sequence[Item] | pa.Table,
    rejected: Sequence[Mapping[str, str]],
    objects: Sequence[Object] = (),
    *,
    next_id: int | None = None,
    regions: RegionFacts | None = None,
    previous: Manifest | None = None,
) -> Manifest:
    """Write the tables and return the manifest, which makes them the index once it is in place.

    Args:
        folder: The index.
        spaces: Space name to its files, which are written already.
        items: One for each row of every space, in order; a table of their schema for very many.
        rejected: `{"file": ..., "reason": ...}` for each file that was left out.
        objects: Known objects of the images.
        next_id: The first id that no image ever had; one more than the largest if left out.
        regions: Files of regions, which are written already.
        previous: The manifest that is changed. Its digests are kept: a file is hashed only when it is new.

    Raises:
        BadIndex: A new file is not what was written.
    """
    if next_id is None:
        ids = items["id"].to_numpy() if isinstance(items, pa.Table) else [item.id for item in items]
        next_id = 1 + int(max(ids, default=-1))
    items_name = _write(folder, _parquet(items, ITEM_SCHEMA), "-items.parquet")
    sound = list(_sound(objects))
    objects_name = _write(folder, _parquet(sound, OBJECT_SCHEMA), "-objects.parquet") if sound else None
    rejected_name = _write(folder, _rejected(rejected), "-rejected.jsonl")
    try:  # what a reader would refuse must not replace an index
        tables.read_items(folder, items_name, len(items))
        tables.read_objects(folder, objects_name, len(items))
        tables.read_rejected(folder, rejected_name)
    except ValueError as error:
        raise BadIndex(f"The index {folder} cannot be written: its tables would have {error}.") from error
    shards = [name for space in spaces.values() for name in (*space.shards, *space.heads)]
    shards += filter(None, (*regions.shards, regions.graph)) if regions else ()
    known = previous.files if previous else {}
    names = dict.fromkeys(filter(None, (items_name, objects_name, rejected_name, *shards)))
    return Manifest(
        format=FORMAT,
        items=items_name,
        objects=objects_name,
        rejected=rejected_name,
        next_id=next_id,
        origin=previous.origin if previous else None,
        changed=bool(previous and previous.origin),
        spaces=dict(spaces),
        regions=regions,
        files={name: known.get(name) or _facts(folder, name) for name in names},
    )


def _facts(folder: Path, name: str) -> FileFacts:
    """A new file, read again from disk: rot is never signed."""
    sha256 = digest(folder / name)
    if not sha256.startswith(name[:32]):
        raise damaged(folder, name)
    return FileFacts(sha256=sha256)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, with its digest: the one step that changes an index."""
    atomic_write(folder / MANIFEST, signed(manifest)[1])


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
    if durable:
        _sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power cut."""
    with path.open("rb" if os.name == "posix" else "rb+") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be synced
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(folder: Path, data: bytes, suffix: str) -> str:
    name = hashlib.sha256(data).hexdigest()[:32] + suffix
    atomic_write(folder / name, data)
    return name


def _rejected(entries: Sequence[Mapping[str, str]]) -> bytes:
    """The list of files that were left out, no longer than a reader accepts."""
    lines, room = [], tables.REJECTED_BYTES - 1000
    for entry in entries[: tables.MAX_REJECTED]:
        lines.append(json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n")
        room -= len(lines[-1])
        if room < 0:
            lines.pop()
            break
    if len(entries) > len(lines):
        more = {"file": "", "reason": f"{len(entries) - len(lines)} more files were left out."}
        lines.append(json.dumps(more).encode() + b"\n")
    return b"".join(lines)


def _sound(objects: Iterable[Object]) -> Iterator[Object]:
    """Objects with sorted corners, without those whose box is none."""
    for known in objects:
        x0, y0, x1, y1 = known.box
        if all(map(math.isfinite, known.box)):
            yield replace(known, box=(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))


def _parquet(rows: Sequence[Item] | Sequence[Object] | pa.Table, schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    table = rows if isinstance(rows, pa.Table) else tables.as_table([_columns(row) for row in rows], schema)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _columns(row: Item | Object) -> dict[str, Any]:
    corners = zip(BOX, row.box, strict=True) if isinstance(row, Object) else ()
    return asdict(row) | dict(corners)


def _half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadIndex("The encoder gave values that float16 cannot hold: no index can be made with it.")
    return half
