"""Rewriting the shards of an index when some of its images are removed or added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foir.errors import BadIndex
from foir.index import Index, Item, writer
from foir.index.format import map_tensors

from .shards import Shard


@dataclass(frozen=True, eq=False)
class KeptRows:
    """The rows of one shard that stay in the index.

    Attributes:
        items: One for each row that stays.
        files: The file of each space.
        heads: The file of the head cache, where there is one.
        vectors: All rows of each space, mapped.
        cache: All rows of the head cache, mapped: z and residual; empty without one.
        mask: Which rows stay, bool; None for all.
    """

    items: tuple[Item, ...]
    files: Mapping[str, str]
    heads: str | None
    vectors: Mapping[str, np.ndarray]
    cache: tuple[np.ndarray, ...]
    mask: np.ndarray | None = None

    @classmethod
    def of_shard(cls, folder: Path, shard: Shard) -> KeptRows:
        """All rows of a new shard."""
        vectors = {name: map_tensors(folder / file)["vectors"] for name, file in shard.vectors.items()}
        cache = map_tensors(folder / shard.heads) if shard.heads else {}
        return cls(shard.items, shard.vectors, shard.heads, vectors, (cache["z"], cache["residual"]) if cache else ())

    def select(self, matrix: np.ndarray) -> np.ndarray:
        """The rows of a matrix that stay, copied only where some do not."""
        return matrix if self.mask is None else matrix[self.mask]


def keep_rows(index: Index, items: Sequence[Item], removed: set[str]) -> Iterator[KeptRows]:
    """The shards of an index without the images `removed`, by name. Empty shards are left out.

    Raises:
        BadIndex: Its spaces are split into different shards.
    """
    lengths = {name: [len(shard) for shard in space.shards] for name, space in index.spaces.items()}
    if any(other != lengths["image"] for other in lengths.values()):
        raise BadIndex(f"The spaces of {index.folder} have different shards, so it cannot be changed: rebuild it.")
    image, facts = index.space("image"), index.manifest["spaces"]
    start = 0
    for number, length in enumerate(lengths["image"]):
        shard_items = items[start : start + length]
        start += length
        mask = np.array([item.file not in removed for item in shard_items], bool)
        if mask.any():
            yield KeptRows(
                tuple(item for item in shard_items if item.file not in removed),
                {name: facts[name]["shards"][number] for name in lengths},
                facts["image"]["heads"][number] if image.z else None,
                {name: space.shards[number] for name, space in index.spaces.items()},
                (image.z[number], image.residual[number]) if image.z else (),
                None if mask.all() else mask,
            )


def group_shards(shards: Iterable[KeptRows], size: int) -> list[list[KeptRows]]:
    """Neighbours with at most `size` rows together: many small changes do not leave many small files."""
    groups: list[list[KeptRows]] = []
    for shard in shards:
        if groups and sum(len(each.items) for each in (*groups[-1], shard)) <= size:
            groups[-1].append(shard)
        else:
            groups.append([shard])
    return groups


def merge_shards(folder: Path, group: Sequence[KeptRows]) -> tuple[Mapping[str, str], str | None]:
    """Write a group as one shard; returns the file of each space, and of the head cache. Reuses unchanged files."""
    first = group[0]
    if len(group) == 1 and first.mask is None:
        return first.files, first.heads
    files = {
        name: writer.write_vectors(folder, np.concatenate([shard.select(shard.vectors[name]) for shard in group]))
        for name in first.vectors
    }
    if first.heads is None:
        return files, None
    z, residual = (np.concatenate([shard.select(shard.cache[part]) for shard in group]) for part in (0, 1))
    return files, writer.write_heads(folder, z, residual)
