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
        items: One for each row.
        files: The file of each space, and of the head cache where there is one; None where rows were left out.
        tensors: The rows: by space, and of the head cache.
    """

    items: tuple[Item, ...]
    files: tuple[Mapping[str, str], str | None] | None
    tensors: tuple[Mapping[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]

    @classmethod
    def of(cls, folder: Path, shard: Shard) -> Piece:
        """A shard that was just made."""
        vectors = {name: map_tensors(folder / file)["vectors"] for name, file in shard.vectors.items()}
        cache = None if shard.heads is None else map_tensors(folder / shard.heads)
        heads = None if cache is None else (cache["z"], cache["residual"])
        return cls(shard.items, (shard.vectors, shard.heads), (vectors, heads))


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
        if not stay.any():
            continue
        kept = slice(None) if stay.all() else stay
        heads = facts["image"]["heads"][at] if image.z else None
        yield Piece(
            tuple(item for item, stays in zip(mine, stay, strict=True) if stays),
            ({name: facts[name]["shards"][at] for name in counts}, heads) if stay.all() else None,
            (
                {name: space.shards[at][kept] for name, space in index.spaces.items()},
                (image.z[at][kept], image.residual[at][kept]) if image.z else None,
            ),
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
    if len(group) == 1 and group[0].files is not None:
        return group[0].files
    files = {
        name: writer.write_vectors(folder, np.concatenate([piece.tensors[0][name] for piece in group]))
        for name in group[0].tensors[0]
    }
    caches = [piece.tensors[1] for piece in group if piece.tensors[1] is not None]
    if not caches:
        return files, None
    z, residual = (np.concatenate(part) for part in zip(*caches, strict=True))
    return files, writer.write_heads(folder, z, residual)
