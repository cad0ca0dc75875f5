"""The manifest of an index, as a checked record: it may come from a stranger. docs/format.md describes each key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from foir.errors import BadIndex, Unavailable, describe_os_error
from foir.index.format import FORMAT, MANIFEST, MAX_SPACES

MANIFEST_BYTES = 16 * 2**20  # a larger file is refused: its JSON would take a gigabyte of memory
MAX_NESTED = 2**18  # lists and objects in its JSON
MIN_DIM, MAX_DIM = 8, 2**16  # numbers of a vector; with fewer, a small file would have millions of rows
MAX_IMAGES = 2**40

Text: TypeAlias = Annotated[str, StringConstraints(max_length=4096)]
Hash: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{32}(-(heads|regions|items|objects|rejected|thumbs))?\.[a-z]{5,11}$")
]
Shard: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}\.safetensors$")]
Heads: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-heads\.safetensors$")]
RegionShard: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-regions\.safetensors$")]
Graph: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-regions\.usearch$")]
Items: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-items\.parquet$")]
Objects: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-objects\.parquet$")]
Rejected: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-rejected\.jsonl$")]
Thumbs: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}-thumbs\.parquet$")]
SpaceName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Shape: TypeAlias = tuple[Annotated[int, Field(gt=0, le=MAX_DIM)], ...]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_IMAGES)]


class _Record(BaseModel):
    """Unknown keys are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FileFacts(_Record):
    """A file: the SHA-256 of its bytes."""

    sha256: Hash


class SpaceFacts(_Record):
    """A space; see `foir.index.Space`. The shapes are given where a database holds the rows."""

    encoder: Text
    revision: Text
    dtype: Annotated[str, StringConstraints(pattern="^(float32|bfloat16|float16)$")] | None = None
    reference_feature: tuple[FiniteFloat, ...] = Field(min_length=MIN_DIM, max_length=MAX_DIM)
    shards: tuple[Shard, ...] = ()
    heads: tuple[Heads, ...] = ()
    shape: Shape = ()
    z: Shape = ()
    residual: Shape = ()


class RegionFacts(_Record):
    """The region vectors beside each shard of the image space, how they were made, and a graph over them."""

    recipe: Annotated[str, StringConstraints(max_length=2**20)]
    shards: tuple[RegionShard, ...]
    graph: Graph | None = None


class Store(_Record):
    """The database that holds the rows."""

    uri: Text
    collection: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,255}$")]


class Manifest(_Record):
    """The manifest of an index of format 1 or 2, under the keys of format 2."""

    format: Literal[1, 2]
    spaces: dict[SpaceName, SpaceFacts] = Field(max_length=MAX_SPACES)
    files: dict[FileName, FileFacts]
    rejected: Rejected
    items: Items | None = None
    objects: Objects | None = None
    regions: RegionFacts | None = None
    next_id: Count | None = None
    origin: Text | None = None
    changed: bool = False
    thumbs: tuple[Thumbs, ...] = ()
    store: Store | None = None
    count: Count = 0
    bytes: Annotated[int, Field(ge=0)] = 0
    origins: tuple[tuple[Text | None, Text | None, Count], ...] = ()
    digest: Text = ""

    @property
    def used_files(self) -> set[str]:
        """Every file that it refers to."""
        names = [name for space in self.spaces.values() for name in (*space.shards, *space.heads)]
        tables = (self.items, self.objects, self.rejected)
        regions = (*self.regions.shards, self.regions.graph) if self.regions else ()
        return {name for name in (*tables, *names, *regions, *self.thumbs) if name is not None}

    def without_graph(self) -> Manifest:
        """What may be shared: a graph is opened only where it was written; see `foir.index.graph`."""
        if self.regions is None or self.regions.graph is None:
            return self
        files = {name: facts for name, facts in self.files.items() if name != self.regions.graph}
        return self.model_copy(update={"regions": self.regions.model_copy(update={"graph": None}), "files": files})

    @model_validator(mode="after")
    def _is_whole(self) -> Manifest:
        if "image" not in self.spaces or (self.store is None) == (self.items is None):
            raise ValueError("no image space, or rows in no place or in two")
        if self.used_files - set(self.files):
            raise ValueError("a file without a digest")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        BadIndex: It is missing, damaged, or of another format.
        Unavailable: It cannot be read.
    """
    data, raw = _read(folder), None
    try:
        raw = json.loads(data) if _is_small(data) else None
        intact = isinstance(raw, dict) and raw.get("digest") == manifest_digest(raw)
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"The manifest of {folder} is damaged: rebuild the index.") from error
    if not intact or not isinstance(raw, dict):
        raise BadIndex(f"The manifest of {folder} is damaged: its digest does not match.")
    version = raw.get("format")
    if version not in (1, FORMAT) or not isinstance(version, int):
        raise BadIndex(f"The index {folder} has format {str(version)[:20]!r}; this foir reads 1 to {FORMAT}.")
    try:
        return Manifest.model_validate(_upgraded(raw) if version == 1 else raw)
    except (ValidationError, RecursionError, AttributeError, TypeError) as error:
        raise BadIndex(f"The index {folder} does not fit its own manifest: rebuild it.") from error


def _read(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait forever
            raise BadIndex(f"The manifest of {folder} is damaged: rebuild the index.")
        with path.open("rb") as file:
            return file.read(MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise BadIndex(f"There is no index at {folder}: it holds no {MANIFEST}.") from None
    except OSError as error:
        raise Unavailable(describe_os_error(f"The index {folder} cannot be read", error)) from error


def _is_small(data: bytes) -> bool:
    return len(data) <= MANIFEST_BYTES and data.count(b"[") + data.count(b"{") <= MAX_NESTED


def _upgraded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of format 1 under the keys of format 2."""
    names = {"probe": "reference_feature"}
    spaces = {
        name: {names.get(key, key): value for key, value in facts.items()} for name, facts in raw["spaces"].items()
    }
    return {**raw, "spaces": spaces} if "spaces" in raw else dict(raw)


def signed(manifest: Manifest) -> tuple[Manifest, bytes]:
    """A manifest of this format with its digest, and the bytes of its file."""
    current = manifest.model_copy(update={"format": FORMAT})
    stored = current.model_dump(mode="json", exclude_defaults=True, exclude={"digest"})
    digest = manifest_digest(stored)
    data = json.dumps({**stored, "digest": digest}, indent=1).encode()
    if not _is_small(data):
        raise BadIndex("The index has too many files for its manifest: build several smaller ones.")
    return current.model_copy(update={"digest": digest}), data


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
