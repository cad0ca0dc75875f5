"""The matrices of an index: its spaces and its regions, memory-mapped once they are known to fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from foir.index.manifest import RegionFacts, SpaceFacts
from foir.index.records import Regions, Space
from foir.index.tensors import map_tensors

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

NORM_TOLERANCE = 0.02  # of a unit vector
MAX_REGIONS = 256  # of an image
SPARE_FILES = 256  # descriptors for everything but an index's maps


def raise_file_limit(maps: int) -> None:
    """Raise this process's limit of open files where the system allows it: each map keeps a descriptor."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = maps + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def read_space(folder: Path, facts: SpaceFacts) -> Space:
    """A space with its matrices memory-mapped.

    Raises:
        ValueError: Its parts do not fit each other.
    """
    heads = [map_tensors(folder / name) for name in facts.heads]
    space = Space(
        encoder=facts.encoder,
        revision=facts.revision,
        reference_feature=np.asarray(facts.reference_feature, np.float32),
        shards=tuple(map_tensors(folder / name)["vectors"] for name in facts.shards),
        z=tuple(shard["z"] for shard in heads),
        residual=tuple(shard["residual"] for shard in heads),
        dtype=facts.dtype,
    )
    rows = [len(shard) for shard in space.shards]
    cache_rows = [[len(shard) for shard in shards] for shards in (space.z, space.residual)]
    cache_shapes = {(z.shape[1:], residual.shape[1:]) for z, residual in zip(space.z, space.residual, strict=True)}
    floats = {tensor.dtype.kind for tensor in (*space.shards, *space.z, *space.residual)}
    fits = (
        abs(float(np.linalg.norm(space.reference_feature)) - 1) < NORM_TOLERANCE
        and all(shard.shape[1:] == space.reference_feature.shape for shard in space.shards)
        and floats <= {"f"}
        and (not heads or cache_rows == [rows, rows])
        and len(cache_shapes) <= 1
        and all(len(z) == 2 and len(residual) == 1 for z, residual in cache_shapes)
    )
    if not fits:
        raise ValueError("parts that do not fit each other")
    return space


def read_regions(folder: Path, facts: RegionFacts | None, space: Space, *, own: bool) -> Regions | None:
    """The regions beside the shards of the `image` space, memory-mapped; None where there are none.

    Args:
        folder: The index.
        facts: Their files.
        space: The `image` space.
        own: This machine wrote the index, so that its graph may be opened.

    Raises:
        ValueError: They do not fit the space, or each other.
    """
    if facts is None:
        return None
    shards = [map_tensors(folder / name) for name in facts.shards]
    for rows, shard in zip(space.shards, shards, strict=True):
        _check_regions(shard, rows, space)
    vectors, boxes, starts = (tuple(shard[name] for shard in shards) for name in ("vectors", "boxes", "starts"))
    graph = None
    if facts.graph is not None and own:
        from foir.index.graph import RegionGraph

        graph = RegionGraph(folder / facts.graph, len(space.reference_feature))
    return Regions(facts.recipe, vectors, boxes, starts, graph)


def _check_regions(shard: Mapping[str, np.ndarray], rows: np.ndarray, space: Space) -> None:
    vectors, boxes, starts = (shard[name] for name in ("vectors", "boxes", "starts"))
    counts = np.diff(starts.astype(np.int64))
    fits = (
        vectors.dtype.kind == "f"
        and vectors.shape[1:] == space.reference_feature.shape
        and boxes.dtype == np.uint16
        and boxes.shape == (len(vectors), 4)
        and starts.dtype == np.int32
        and starts.shape == (len(rows) + 1,)
        and (starts[0], starts[-1]) == (0, len(vectors))
        and bool(((counts > 0) & (counts <= MAX_REGIONS)).all())
        and bool((boxes[:, :2] <= boxes[:, 2:]).all())
    )
    if not fits:
        raise ValueError("regions that do not fit the vectors")
