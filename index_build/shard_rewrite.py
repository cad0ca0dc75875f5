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
        regions: The file of regions, where there are any.
        mask: Which rows stay, bool; None for all.
    """

    items: tuple[Item, ...]
    files: Mapping[str, str]
    heads: str | None
    regions: str | None
    mask: np.ndarray | None = None

    def read(self, folder: Path, file: str) -> dict[str, np.ndarray]:
        """The rows that stay of each tensor in a file of the shard, from bytes that are checked: rot is never copied.

        Raises:
            BadIndex: The file is damaged.
        """
        tensors = parse_tensors(verified_bytes(folder, file))
        return tensors if self.mask is None else {name: tensor[self.mask] for name, tensor in tensors.items()}

    def read_regions(self, folder: Path, file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors, boxes, and number of regions of each row that stays; see `read`."""
        tensors = parse_tensors(verified_bytes(folder, file))
        counts = np.diff(tensors["starts"])
        mask = np.ones(len(counts), bool) if self.mask is None else self.mask
        stays = np.repeat(mask, counts)
        return tensors["vectors"][stays], tensors["boxes"][stays], counts[mask]


def keep_rows(index: Index, items: Sequence[Item], removed: set[str]) -> Iterator[KeptRows]:
    """The shards of an index without the images `removed`, by name. Empty shards are left out.

    Raises:
        BadIndex: Its spaces are split into different shards.
    """
    lengths = {name: [len(shard) for shard in space.shards] for name, space in index.spaces.items()}
    if any(other != lengths["image"] for other in lengths.values()):
        raise BadIndex(f"The spaces of {index.folder} have different shards, so it cannot be changed: rebuild it.")
    facts, start = index.manifest.spaces, 0
    regions = index.manifest.regions
    for number, length in enumerate(lengths["image"]):
        shard_items = items[start : start + length]
        start += length
        mask = np.array([item.key not in removed for item in shard_items], bool)
        if mask.any():
            yield KeptRows(
                tuple(item for item in shard_items if item.key not in removed),
                {name: facts[name].shards[number] for name in lengths},
                facts["image"].heads[number] if facts["image"].heads else None,
                None if regions is None else regions.shards[number],
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


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard: of each space, of the head cache and of regions, where there are any."""

    vectors: Mapping[str, str]
    heads: str | None
    regions: str | None


def merge_shards(folder: Path, group: Sequence[KeptRows]) -> ShardFiles:
    """Write a group as one shard. Reuses unchanged files."""
    first = group[0]
    if len(group) == 1 and first.mask is None:
        return ShardFiles(first.files, first.heads, first.regions)
    files: dict[str, str] = {}
    for name in first.files:
        rows = [shard.read(folder, shard.files[name])["vectors"] for shard in group]
        files[name] = writer.write_vectors(folder, np.concatenate(rows))
    heads = regions = None
    if first.heads:
        caches = [shard.read(folder, shard.heads) for shard in group if shard.heads]
        z, residual = (np.concatenate([cache[part] for cache in caches]) for part in ("z", "residual"))
        heads = writer.write_heads(folder, z, residual)
    if first.regions:
        parts = [shard.read_regions(folder, shard.regions) for shard in group if shard.regions]
        vectors, boxes, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        regions = writer.write_regions(folder, vectors, boxes, np.cumsum([0, *counts.tolist()]))
    return ShardFiles(files, heads, regions)
