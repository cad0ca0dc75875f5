"""Tables and matrices of an index, read only once they are known to fit: the files may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foir.errors import BadIndex
from foir.index.format import ITEM_SCHEMA, OBJECT_SCHEMA, map_tensors
from foir.index.records import Space

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

REQUIRED_ITEM_COLUMNS = ("id", "file", "width", "height", "thumb")
REQUIRED_OBJECT_COLUMNS = ("item", "box", "category", "name")
MAX_OBJECTS_PER_IMAGE = 1000  # on average; an index with more is refused
SPARE_FILES = 256  # descriptors for everything but an index's maps


def read_items(folder: Path, name: str, rows: int) -> pa.Table:
    """The table of images.

    Raises:
        BadIndex: It has another number of rows than the matrices.
        ValueError: A required value is missing, or two images have one id.
    """
    count = _row_count(folder / name)  # checked first: a few bytes of parquet can become millions of rows
    if count != rows:
        raise BadIndex(f"The index {folder} has {count} items but {rows} vectors.")
    table = pq.read_table(folder / name, schema=ITEM_SCHEMA)
    if any(table[column].null_count for column in REQUIRED_ITEM_COLUMNS):
        raise ValueError("images without a required value")
    ids = table["id"].to_numpy()
    if (np.diff(ids) <= 0).any() and len(np.unique(ids)) != rows:  # ids of a build ascend, which is quickly checked
        raise ValueError("two images with one id")
    return table


def read_objects(folder: Path, name: str | None, images: int) -> pa.Table:
    """The table of known objects, empty where there is none.

    Raises:
        ValueError: It has an implausible number of rows, or a required value is missing.
    """
    if name is None:
        return OBJECT_SCHEMA.empty_table()
    if _row_count(folder / name) > MAX_OBJECTS_PER_IMAGE * (images + 1):
        raise ValueError("too many objects")
    table = pq.read_table(folder / name, schema=OBJECT_SCHEMA)
    if any(table[column].null_count for column in REQUIRED_OBJECT_COLUMNS):
        raise ValueError("objects without a required value")
    return table


def _row_count(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def raise_file_limit(maps: int) -> None:
    """Raise this process's limit of open files where the system allows it: each map keeps a descriptor."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = maps + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def read_space(folder: Path, facts: Mapping[str, Any]) -> Space:
    """A space with its matrices memory-mapped.

    Raises:
        ValueError: Its parts do not fit each other.
    """
    heads = [map_tensors(folder / name) for name in facts["heads"]]
    space = Space(
        encoder=facts["encoder"],
        revision=facts["revision"],
        reference_feature=np.asarray(facts["probe"], np.float32),
        shards=tuple(map_tensors(folder / name)["vectors"] for name in facts["shards"]),
        z=tuple(shard["z"] for shard in heads),
        residual=tuple(shard["residual"] for shard in heads),
        recipe=facts.get("way", ""),
    )
    rows = [len(shard) for shard in space.shards]
    cache_rows = [[len(shard) for shard in shards] for shards in (space.z, space.residual)]
    fits = (
        all(isinstance(text, str) for text in (space.encoder, space.revision, space.recipe))
        and space.reference_feature.ndim == 1
        and all(shard.shape[1:] == space.reference_feature.shape for shard in space.shards)
        and (not heads or cache_rows == [rows, rows])
    )
    if not fits:
        raise ValueError("parts that do not fit each other")
    return space
