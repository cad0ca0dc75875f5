"""An index's tables and matrices, read only once they are known to fit: what they claim may be made up."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foir.errors import BadIndex
from foir.index.format import ITEM_SCHEMA, OBJECT_SCHEMA, map_tensors
from foir.index.records import Space

ITEM_FACTS = ("id", "file", "width", "height", "thumb")  # what every picture has
OBJECT_FACTS = ("item", "box", "category", "name")  # and every object
MOST_OBJECTS = 1000  # of a picture, on average; more are not believed
SPARE_FILES = 256  # descriptors for everything but an index's maps


def read_items(folder: Path, name: str, rows: int) -> pa.Table:
    """The table of pictures.

    Raises:
        BadIndex: It has another number of rows than the matrices.
        ValueError: A picture lacks something, or two have one id.
    """
    count = _count(folder / name)  # a few bytes of parquet can become millions of rows, so this is looked at first
    if count != rows:
        raise BadIndex(f"The index {folder} has {count} items but {rows} vectors.")
    table = pq.read_table(folder / name, schema=ITEM_SCHEMA)
    if any(table[fact].null_count for fact in ITEM_FACTS):
        raise ValueError("pictures without what every picture has")
    ids = table["id"].to_numpy()
    if (np.diff(ids) <= 0).any() and len(np.unique(ids)) != rows:  # a build counts up, which is quickly seen
        raise ValueError("two pictures with one id")
    return table


def read_objects(folder: Path, name: str | None, pictures: int) -> pa.Table:
    """The table of known objects, empty where there is none.

    Raises:
        ValueError: It has more rows than can be believed, or an object lacks something.
    """
    if name is None:
        return OBJECT_SCHEMA.empty_table()
    if _count(folder / name) > MOST_OBJECTS * (pictures + 1):
        raise ValueError("too many objects")
    table = pq.read_table(folder / name, schema=OBJECT_SCHEMA)
    if any(table[fact].null_count for fact in OBJECT_FACTS):
        raise ValueError("objects without what every object has")
    return table


def _count(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def raise_file_limit(count: int) -> None:
    """Each map keeps a file descriptor; allow this process as many as it needs, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def read_space(folder: Path, facts: Mapping[str, Any]) -> Space:
    """A space's matrices, mapped.

    Raises:
        ValueError: They do not belong together.
    """
    heads = [map_tensors(folder / name) for name in facts["heads"]]
    made = Space(
        encoder=facts["encoder"],
        revision=facts["revision"],
        reference_feature=np.asarray(facts["probe"], np.float32),
        shards=tuple(map_tensors(folder / name)["vectors"] for name in facts["shards"]),
        z=tuple(shard["z"] for shard in heads),
        residual=tuple(shard["residual"] for shard in heads),
        recipe=facts.get("way", ""),
    )
    rows = [len(shard) for shard in made.shards]
    cached = [[len(part) for part in parts] for parts in (made.z, made.residual)]
    fits = (
        isinstance(made.encoder, str)
        and isinstance(made.revision, str)
        and isinstance(made.recipe, str)
        and made.reference_feature.ndim == 1
        and all(shard.shape[1:] == made.reference_feature.shape for shard in made.shards)
        and (not heads or cached == [rows, rows])
    )
    if not fits:
        raise ValueError("parts that do not belong together")
    return made
