"""Reading an index: `Index.open` verifies every file, then maps vectors and reads tables."""

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
from foir.index.format import (
    ITEM_SCHEMA,
    OBJECT_SCHEMA,
    map_tensors,
    read_manifest,
    thumb_name,
    used_files,
)
from foir.index.verified import check

_UNFIT = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    OSError,
    pa.ArrowException,
)


@dataclass(frozen=True)
class Item:
    """One picture of an index.

    Attributes:
        id: Never changes, and is never given to another picture.
        file: Relative to the indexed folder.
        width: Of the upright picture, in pixels.
        height: The same.
        caption: What is said of it.
        source: Where it comes from.
        licence: Under which it may be used.
        thumb: Digest of its thumbnail.
        bytes: Size of the file when it was read; None where no folder is remembered.
        modified: Its time of change then, in nanoseconds.
    """

    id: int
    file: str
    width: int
    height: int
    caption: str | None
    source: str | None
    licence: str | None
    thumb: str
    bytes: int | None = None
    modified: int | None = None


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
        """Open and verify an index; see `foir.index.verified` for what is not verified again.

        Raises:
            BadIndex: It is absent, of another format, incomplete, or any byte of it is not what was published.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        while True:
            try:
                return cls._open(folder, manifest)
            except BadIndex:
                read, manifest = manifest, read_manifest(folder)
                if read == manifest:
                    raise  # else it was changed in the meantime, and the files of its old state may be gone

    @classmethod
    def _open(cls, folder: Path, manifest: Mapping[str, Any]) -> Index:
        try:
            check(folder, manifest["files"])
            unlisted = used_files(manifest) - set(manifest["files"])
            if unlisted:
                raise BadIndex(f"The manifest of {folder} gives no digest of {min(unlisted)}: rebuild the index.")
            items = pq.read_table(folder / manifest["items"], schema=ITEM_SCHEMA)
            objects = _objects(folder, manifest["objects"])
            spaces = {name: _space(folder, facts) for name, facts in manifest["spaces"].items()}
        except BadIndex:
            raise
        except _UNFIT as error:
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

    def items(self) -> list[Item]:
        """All pictures, in the matrices' order."""
        return [Item(**row) for row in self._items.to_pylist()]

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

    def rejected(self) -> list[dict[str, str]]:
        """What was left out: `file` and `reason` of each."""
        lines = (self.folder / self.manifest["rejected"]).read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def thumbs(self) -> set[str]:
        """The digests of all thumbnails."""
        return set(self._items["thumb"].to_pylist())

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


def _objects(folder: Path, name: str | None) -> list[Object]:
    if name is None:
        return []
    rows = pq.read_table(folder / name, schema=OBJECT_SCHEMA).to_pylist()
    return [Object(**{**row, "box": tuple(row["box"])}) for row in rows]


def _space(folder: Path, facts: Mapping[str, Any]) -> Space:
    heads = [map_tensors(folder / name) for name in facts["heads"]]
    space = Space(
        encoder=facts["encoder"],
        revision=facts["revision"],
        probe=np.asarray(facts["probe"], np.float32),
        shards=tuple(map_tensors(folder / name)["vectors"] for name in facts["shards"]),
        z=tuple(shard["z"] for shard in heads),
        residual=tuple(shard["residual"] for shard in heads),
    )
    rows = [len(shard) for shard in space.shards]
    cached = [[len(part) for part in parts] for parts in (space.z, space.residual)]
    fits = (
        isinstance(space.encoder, str)
        and isinstance(space.revision, str)
        and space.probe.ndim == 1
        and all(shard.shape[1:] == space.probe.shape for shard in space.shards)
        and (not heads or cached == [rows, rows])
    )
    if not fits:
        raise ValueError("parts that do not belong together")
    return space
