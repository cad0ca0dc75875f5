"""A valid index to start from, and a copy of it that an attacker changes and signs."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foir.index import Object
from foir.index.format import MANIFEST
from foir.index.manifest import manifest_digest
from index_build import pipeline
from index_build.sources import Metadata
from tests import kill_points

PICTURES, SHARD = 34, 32  # enough for a scan in half precision and for two shards; no large table


def make_valid(base: Path, *, portable: bool = True) -> Path:
    """An index of 34 pictures with heads, captions, objects and a rejected file; beside it "pictures"."""
    folder, out = base / "pictures", base / "index"
    for seed in range(PICTURES):
        kill_points.picture(folder / f"{seed:02}.png", seed)
    (folder / "99-broken.png").write_bytes(b"junk")
    things = (Object(-1, (2.0, 3.0, 20.0, 18.0), "1 2 3", "disc", "disc-7", "red disc", "drawn"),)
    notes = {
        f"{seed:02}.png": Metadata(f"picture {seed}", "drawn", "CC0-1.0", things) for seed in range(0, PICTURES, 3)
    }
    usual, pipeline.SHARD_SIZE = pipeline.SHARD_SIZE, SHARD
    try:
        plan = pipeline.Plan(folder, out, "stand-in", heads=True, metadata=notes, portable=portable)
        pipeline.build(plan, kill_points.StandIn())
    finally:
        pipeline.SHARD_SIZE = usual
    return out


class Draft:
    """A copy of the valid index at `folder`/index; `sign` gives it a manifest that fits its files."""

    def __init__(self, valid: Path, folder: Path) -> None:
        self.base, self.folder = folder, folder / "index"
        shutil.copytree(valid, self.folder)
        self.manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
        self.raw: bytes | None = None  # the manifest to write instead

    @property
    def space(self) -> dict[str, Any]:
        return self.manifest["spaces"]["image"]

    def name(self, kind: str) -> str:
        """The file of a kind: "items", "objects", "rejected", "vectors" or "heads"."""
        lists = {"vectors": "shards", "heads": "heads"}
        return self.space[lists[kind]][0] if kind in lists else self.manifest[kind]

    def path(self, kind: str) -> Path:
        return self.folder / (MANIFEST if kind == "manifest" else self.name(kind))

    def thumb(self) -> Path:
        """The thumbnail of the first image."""
        digest = pq.read_table(self.path("items"))["thumb"][0].as_py()
        return self.folder / "thumbs" / digest[:2] / f"{digest}.jpg"

    def replace(self, kind: str, data: bytes) -> None:
        """Put other bytes in the place of a file, under the name that the format gives them."""
        self.rename(kind, data, hashlib.sha256(data).hexdigest()[:32] + self.name(kind)[32:])

    def rename(self, kind: str, data: bytes, name: str) -> None:
        """Put other bytes in the place of a file, under any name."""
        old = self.name(kind)
        known = {old: hashlib.sha256(b"").hexdigest()} | self.manifest["files"]
        before, size = known.pop(old), self.path(kind).stat().st_size
        (self.folder / old).unlink()
        with (self.folder / name).open("wb") as file:  # with a hole for the zeros at its end
            file.write(data.rstrip(b"\0"))
            file.truncate(len(data))
        text = json.dumps({key: value for key, value in self.manifest.items() if key != "files"})
        self.manifest = json.loads(text.replace(json.dumps(old), json.dumps(name)))
        fresh = {"sha256": hashlib.sha256(data).hexdigest(), **{k: len(data) for k, v in before.items() if v == size}}
        self.manifest["files"] = known | {name: before | fresh}

    def table(self, kind: str, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
        """Replace a table by a changed one."""
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(self.path(kind))), sink, **{"compression": "zstd", **options})
        self.replace(kind, sink.getvalue().to_pybytes())

    def tensors(self, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace a file of tensors."""
        self.replace(kind, tensor_bytes(arrays))

    def add(self, suffix: str, data: bytes) -> str:
        """Write a file more, under the name that the format gives it, which is returned."""
        name = hashlib.sha256(data).hexdigest()[:32] + suffix
        (self.folder / name).write_bytes(data)
        self.manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest()}
        return name

    def sign(self) -> None:
        """Write the manifest with its digest; one that was replaced by something else stays."""
        path = self.folder / MANIFEST
        if self.raw is not None:
            path.write_bytes(self.raw)
        elif path.is_file() and not path.is_symlink():
            self.manifest["digest"] = manifest_digest(self.manifest)
            path.write_text(json.dumps(self.manifest))


def tensor_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; a header that is no bytes is padded, as the format asks."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (0 if isinstance(header, bytes) else -len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file of any arrays."""
    header, data = {}, b""
    codes = {"float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int32": "I32", "uint16": "U16"}
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": codes[array.dtype.name], "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    return tensor_file(header, data)
