"""Reading an index: every file is checked against the manifest's digests before anything in it is believed.

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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


@dataclass(frozen=True)
class Item:
    """One picture of an index. `id` never changes, `file` is relative to the indexed folder, `thumb` is a digest."""

    id: int
    file: str
    width: int
    height: int
    caption: str | None
    source: str | None
    licence: str | None
    thumb: str


@dataclass(frozen=True)
class Object:
    """A known object: `item` is a picture's id, `box` (x0, y0, x1, y1) in its pixels, `mask` run lengths or None."""

    item: int
    box: tuple[float, float, float, float]
    mask: str | None
    category: str
    instance: str | None
    name: str
    source: str | None


@dataclass(frozen=True, eq=False)
class Space:
    """The vectors of one encoder.

    Attributes:
        encoder: Registry name of the encoder.
        revision: Commit or digest of its weights.
        probe: The encoder's `probe` feature when the index was made, float32 [dim].
        shards: Unit vectors, float16 or float32 [n, dim] each, memory-mapped, in item order.
        z: CLS head outputs per shard, [n, h, d_k]; empty without a head cache.
        residual: CLS residuals per shard, [n, d]; empty without a head cache.
    """

    encoder: str
    revision: str
    probe: np.ndarray
    shards: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    residual: tuple[np.ndarray, ...]


class Index:
    """An opened index. Immutable and safe to share between threads."""

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        items: pa.Table,
        objects: Sequence[Object],
        spaces: Mapping[str, Space],
    ) -> None:
        self.folder, self.manifest, self._items, self.spaces = folder, manifest, items, spaces
        self._objects: dict[int, list[Object]] = {}
        for thing in objects:
            self._objects.setdefault(thing.item, []).append(thing)

    @classmethod
    def open(cls, folder: Path | str) -> Index:
        """Open and verify an index.

        Raises:
            BadIndex: It is absent, of another format, incomplete, or any byte of it is not what was published.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        try:
            for name, facts in manifest["files"].items():
                _verify(folder, name, facts)
            items = pq.read_table(folder / manifest["items"], schema=ITEM_SCHEMA)
            objects = _objects(folder, manifest["objects"])
            spaces = {name: _space(folder, facts) for name, facts in manifest["spaces"].items()}
        except BadIndex:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OSError, pa.ArrowException) as error:
            raise BadIndex(f"The index {folder} does not fit its own manifest: rebuild it.") from error
        for name, space in spaces.items():
            if sum(map(len, space.shards)) != len(items):
                raise BadIndex(f"The index {folder} has {len(items)} items but another number of {name} vectors.")
        return cls(folder, manifest, items, objects, spaces)

    def __len__(self) -> int:
        return len(self._items)

    def item(self, row: int) -> Item:
        """The picture in a row of the matrices."""
        return Item(**{name: self._items[name][row].as_py() for name in ITEM_SCHEMA.names})

    @cached_property
    def _row_of_id(self) -> dict[int, int]:
        return {id: row for row, id in enumerate(self._items["id"].to_pylist())}

    def row(self, id: int) -> int:
        """The row of an item id.

        Raises:
            BadIndex: The index has no such item.
        """
        row = self._row_of_id.get(id)
        if row is None:
            raise BadIndex(f"The index has no picture with id {id}.")
        return row

    def objects(self, id: int) -> tuple[Object, ...]:
        """The known objects of a picture; none where the index was built without annotations."""
        return tuple(self._objects.get(id, ()))

    def space(self, name: str = "image") -> Space:
        """A space by name.

        Raises:
            BadIndex: The index does not have it.
        """
        if name not in self.spaces:
            raise BadIndex(f"The index has no {name!r} space; it has {', '.join(self.spaces) or 'none'}.")
        return self.spaces[name]

    def thumb(self, item: Item) -> Path:
        """The item's thumbnail file, checked against its digest.

        Raises:
            BadIndex: It is missing or not the file that was published.
        """
        path = self.folder / thumb_name(item.thumb)
        try:
            intact = hashlib.sha256(path.read_bytes()).hexdigest() == item.thumb
        except OSError:
            intact = False
        if not intact:
            raise BadIndex(f"The thumbnail of {item.file} is missing or damaged: rebuild the index.")
        return path

    def picture(self, item: Item) -> Path:
        """The item's own file where the indexed folder is still there, else its thumbnail.

        Raises:
            BadIndex: Neither is there.
        """
        root = self.manifest.get("root")
        if root is not None:
            base = (self.folder / root).resolve()
            path = (base / item.file).resolve()
            if path.is_relative_to(base) and path.is_file():
                return path
        return self.thumb(item)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `manifest.json`.

    Raises:
        BadIndex: It is missing, damaged, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadIndex(f"There is no index at {folder}: it holds no {MANIFEST}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadIndex(f"The manifest of {folder} is damaged: rebuild the index.") from error
    if not isinstance(manifest, dict) or manifest.get("digest") != manifest_digest(manifest):
        raise BadIndex(f"The manifest of {folder} is damaged: its digest does not match.")
    if manifest.get("format") != FORMAT:
        raise BadIndex(f"The index {folder} has format {manifest.get('format')}; this foir reads format {FORMAT}.")
    return manifest


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def thumb_name(digest: str) -> str:
    """Where a thumbnail lies in an index."""
    return f"thumbs/{digest[:2]}/{digest}.jpg"


def _verify(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    if Path(name).name != name:
        raise BadIndex(f"The manifest of {folder} names a file outside the index.")
    try:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadIndex(f"The index {folder} lacks its file {name}: rebuild it.") from error
    if digest != facts["sha256"]:
        raise BadIndex(f"The file {name} of the index {folder} is damaged: rebuild it.")


def _objects(folder: Path, name: str | None) -> list[Object]:
    if name is None:
        return []
    rows = pq.read_table(folder / name, schema=OBJECT_SCHEMA).to_pylist()
    return [Object(**{**row, "box": tuple(row["box"])}) for row in rows]


def _space(folder: Path, facts: Mapping[str, Any]) -> Space:
    heads = [map_tensors(folder / name) for name in facts["heads"]]
    return Space(
        encoder=facts["encoder"],
        revision=facts["revision"],
        probe=np.asarray(facts["probe"], np.float32),
        shards=tuple(map_tensors(folder / name)["vectors"] for name in facts["shards"]),
        z=tuple(shard["z"] for shard in heads),
        residual=tuple(shard["residual"] for shard in heads),
    )


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
