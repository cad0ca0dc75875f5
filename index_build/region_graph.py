"""Building and changing the graph over an index's regions; see `foir.index.graph`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from foir.errors import Unavailable
from foir.index import graph, spaces
from foir.index.format import digest
from foir.index.tensors import map_tensors
from foir.index.writer import sync_file

RegionShard = tuple[Sequence[int], str]  # ids of its images, and its file of regions


def write_graph(
    folder: Path, shards: Sequence[RegionShard], *, previous: str | None = None, changes: Sequence[RegionShard] = (),
    removed: Sequence[int] = (),
) -> str | None:  # fmt: skip
    """Write the graph of an index and return its file name; None where the index is small enough to be scanned.

    Args:
        folder: The index.
        shards: All of its shards, in their new state.
        previous: The graph of its old state, where it has one.
        changes: Of the shards, those that are new since then.
        removed: Ids of images whose regions are no longer those of the old state.
    """
    spaces.raise_file_limit(2 * len(shards))
    tensors = [map_tensors(folder / file) for _, file in shards]
    if sum(len(each["vectors"]) for each in tensors) < graph.GRAPH_ROWS:
        return None
    dim = tensors[0]["vectors"].shape[1]
    old = None if previous is None else folder / previous
    built = graph.open_for_change(old, dim)
    if old is not None and removed:
        every = np.full(len(removed), 1 << graph.ORDINAL_BITS)
        known = graph.keys(removed, every)
        built.remove(known[built.contains(known)])
    for ids, file in tqdm(shards if old is None else changes, unit="shard", desc="graph"):
        shard = map_tensors(folder / file)
        built.add(graph.keys(ids, np.diff(shard["starts"])), np.array(shard["vectors"]))
    part = folder / f"{'0' * 32}-regions.usearch.0.part"
    try:
        built.save(str(part))
        sync_file(part)
    except (RuntimeError, OSError) as error:  # the library has one error for a full disk and all else
        part.unlink(missing_ok=True)
        raise Unavailable(f"The graph of the index {folder} cannot be written: is the disk full?") from error
    name = f"{digest(part)[:32]}-regions.usearch"
    part.replace(folder / name)
    return name
