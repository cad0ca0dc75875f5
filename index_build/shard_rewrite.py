"""Rewriting the shards of an index when some of its images are removed or added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foir.errors import BadIndex
from foir.index import Index, Item, writer
from foir.index.format import verified_bytes
from foir.index.tensors import parse_tensors


@dataclass(frozen=True, eq=False)
class KeptRows:
    """The rows of one shard that stay in the index.

    Attributes:
        items: One for each row that stays.
        files: The file of each space.
        heads: The file of the head cache, where there is one.
        mask: Which rows stay, bool; None for all.
    """

    items: tuple[Item, ...]
    files: Mapping[str, str]
    heads: str | None
    mask: np.ndarray | None = None

    def read(self, folder: Path, file: str) -> dict[str, np.ndarray]:
        """The rows that stay of each tensor in a file of the shard, from bytes that are checked: rot is never copied.

        Raises:
            BadIndex: The file is damaged.
        """
        tensors = parse_tensors(verified_bytes(folder, file))
        return tensors if self.mask is None else {name: tensor[self.mask] for name, tensor in tensors.items()}


def keep_rows(index: Index, items: Sequence[Item], removed: set[str]) -> Iterator[KeptRows]:
    """The shards of an index without the images `removed`, by name. Empty shards are left out.

    Raises:
        BadIndex: Its spaces are split into different shards.
    """
    lengths = {name: [len(shard) for shard in space.shards] for name, space in index.spaces.items()}
    if any(other != lengths["image"] for other in lengths.values()):
        raise BadIndex(f"The spaces of {index.folder} have different shards, so it cannot be changed: rebuild it.")
    facts, start = index.manifest.spaces, 0
    for number, length in enumerate(lengths["image"]):
        shard_items = items[start : start + length]
        start += length
        mask = np.array([item.file not in removed for item in shard_items], bool)
        if mask.any():
            yield KeptRows(
                tuple(item for item in shard_items if item.file not in removed),
                {name: facts[name].shards[number] for name in lengths},
                facts["image"].heads[number] if facts["image"].heads else None,
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
    files: dict[str, str] = {}
    for name in first.files:
        rows = [shard.read(folder, shard.files[name])["vectors"] for shard in group]
        files[name] = writer.write_vectors(folder, np.concatenate(rows))
    caches = [shard.read(folder, shard.heads) for shard in group if shard.heads]
    if not caches:
        return files, None
    z, residual = (np.concatenate([cache[part] for cache in caches]) for part in ("z", "residual"))
    return files, writer.write_heads(folder, z, residual)
