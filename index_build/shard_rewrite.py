"""An index's shards taken apart and put together again when some of its pictures come or go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foir.errors import BadIndex
from foir.index import Index, Item, writer
from foir.index.format import map_tensors
from index_build.shards import Shard


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows that lie together in one file of each space, those that stay.

    Attributes:
        items: One for each row that stays.
        files: The file of each space.
        heads: The file of the head cache, where there is one.
        vectors: All rows of each space, mapped.
        cache: All rows of the head cache, mapped: z and residual.
        stay: Which rows stay, bool; None for all.
    """

    items: tuple[Item, ...]
    files: Mapping[str, str]
    heads: str | None
    vectors: Mapping[str, np.ndarray]
    cache: tuple[np.ndarray, ...]
    stay: np.ndarray | None = None

    @classmethod
    def of(cls, folder: Path, shard: Shard) -> Piece:
        """A shard that was just made."""
        vectors = {name: map_tensors(folder / file)["vectors"] for name, file in shard.vectors.items()}
        kept = map_tensors(folder / shard.heads) if shard.heads else {}
        cache = (kept["z"], kept["residual"]) if kept else ()
        return cls(shard.items, shard.vectors, shard.heads, vectors, cache)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Those of the values that stay, copied only where some do not."""
        return values if self.stay is None else values[self.stay]


def cut_out(index: Index, items: Sequence[Item], gone: set[str]) -> Iterator[Piece]:
    """The shards of an index without some pictures; those of which nothing is left are left out.

    Raises:
        BadIndex: Its spaces are cut differently.
    """
    counts = {name: [len(shard) for shard in space.shards] for name, space in index.spaces.items()}
    lengths = counts["image"]
    if any(other != lengths for other in counts.values()):
        raise BadIndex(f"The spaces of {index.folder} are cut differently, so it cannot be changed: rebuild it.")
    image, facts = index.space("image"), index.manifest["spaces"]
    start = 0
    for at, length in enumerate(lengths):
        mine = items[start : start + length]
        start += length
        stay = np.array([item.file not in gone for item in mine], bool)
        if stay.any():
            yield Piece(
                tuple(item for item, stays in zip(mine, stay, strict=True) if stays),
                {name: facts[name]["shards"][at] for name in counts},
                facts["image"]["heads"][at] if image.z else None,
                {name: space.shards[at] for name, space in index.spaces.items()},
                (image.z[at], image.residual[at]) if image.z else (),
                None if stay.all() else stay,
            )


def grouped(pieces: Iterable[Piece], most: int) -> list[list[Piece]]:
    """Neighbours with at most so many rows together in one: many small changes do not leave many small files."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and sum(len(one.items) for one in (*groups[-1], piece)) <= most:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def written(folder: Path, group: Sequence[Piece]) -> tuple[Mapping[str, str], str | None]:
    """The files of a group, by space, and of its head cache."""
    first = group[0]
    if len(group) == 1 and first.stay is None:
        return first.files, first.heads
    files = {
        name: writer.write_vectors(folder, np.concatenate([piece.rows(piece.vectors[name]) for piece in group]))
        for name in first.vectors
    }
    if first.heads is None:
        return files, None
    z, residual = (np.concatenate([piece.rows(piece.cache[at]) for piece in group]) for at in (0, 1))
    return files, writer.write_heads(folder, z, residual)
