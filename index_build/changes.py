"""Applying changes to an index: rows are dropped and encoded, and one new manifest replaces the old one at the end.

Files that a reader has open are not touched: rows that stay are kept in their files or copied to new ones. `gc` removes
what only the old state used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from foir.errors import BadIndex, Unavailable
from foir.index import Index, Item, Object, local_record, writer
from foir.index.manifest import Manifest

from . import pipeline
from .encoding import LoadedEncoders, SpaceEncoders, load_index_encoders
from .local_executor import LocalExecutor
from .outdated import next_unused_id
from .region_graph import RegionShard, write_graph
from .shard_rewrite import KeptRows, group_shards, keep_rows, merge_shards
from .shards import PARTIAL, ShardSet, write_shards
from .sources.folder import split_files


@dataclass(frozen=True)
class UpdateResult:
    """What changed.

    Attributes:
        added: Names of files that are new.
        reencoded: Those that were encoded again because they changed.
        removed: Those that are gone.
        rejected: Files that cannot be read, with reasons.
        moved: New names of files that were renamed, or moved within the folder.
    """

    added: tuple[str, ...] = ()
    reencoded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rejected: tuple[dict[str, str], ...] = ()
    moved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """The folder of the images, where and in which dtype to encode them, or with which encoders."""

    root: Path
    device: str
    dtype: str
    encoders: SpaceEncoders | None

    def encode(self, index: Index, files: Sequence[tuple[int, str]]) -> ShardSet:
        """Write shards of the files (id, name)."""
        if not files:
            return ShardSet()
        encoders = self.encoders or load_index_encoders(index, device=self.device, dtype=self.dtype)
        if isinstance(encoders, LoadedEncoders):
            encoders = encoders.for_regions_of(index)
        made = {name: (space.encoder, space.revision) for name, space in index.spaces.items()}
        if {name: (each.encoder, each.revision) for name, each in encoders.records.items()} != made:
            raise BadIndex(f"The encoders given for {index.folder} are not those that it was made with.")
        if encoders.region_recipe != ("" if index.regions is None else index.regions.recipe):
            raise BadIndex(f"The encoders given for {index.folder} do not make the regions that it has.")
        chunks = split_files(self.root, files, pipeline.SHARD_SIZE)
        heads, side = bool(index.space("image").z), pipeline.Plan.thumb_side
        executor = LocalExecutor(encoders, index.folder, side)
        return write_shards(index.folder, executor, chunks, heads=heads, thumb_side=side)


@dataclass(frozen=True)
class Changes:
    """What to change in an index.

    Attributes:
        removed: Names of images to drop.
        files: (id, name) of files to encode.
        rejected: Entries of files that were rejected earlier and are not tried again.
        unlisted: Entries of folders that could not be listed now.
    """

    removed: set[str]
    files: Sequence[tuple[int, str]] = ()
    rejected: Sequence[dict[str, str]] = ()
    unlisted: Sequence[dict[str, str]] = ()


def apply_changes(
    index: Index, items: Sequence[Item], changes: Changes, encoding: Encoding | None = None
) -> UpdateResult:
    """Drop and encode images, and publish the new state if it differs from the old one."""
    before = index.items()
    old, requested = {item.key for item in items}, [name for _, name in changes.files]
    dropped = changes.removed | set(requested)
    shards = list(keep_rows(index, items, dropped))
    objects = [known for item in items if item.key not in dropped for known in index.objects(item.id)]
    encoded = encoding.encode(index, changes.files) if encoding else ShardSet()
    shards += [
        KeptRows(shard.items, shard.vectors, shard.heads, shard.regions) for shard in encoded.shards if shard.items
    ]
    readable = {item.key for item in encoded.items}
    result = UpdateResult(
        added=tuple(name for name in requested if name in readable - old),
        reencoded=tuple(name for name in requested if name in readable & old),
        removed=tuple(sorted(changes.removed | (set(requested) & old) - readable)),
        rejected=(*changes.unlisted, *encoded.rejected),
        moved=tuple(sorted(old - {item.key for item in before})),
    )
    if not shards:
        raise Unavailable(f"No image of the index {index.folder} would be left: delete its folder instead.")
    rejected = sorted([*changes.rejected, *result.rejected], key=itemgetter("file"))
    rejected_before = sorted(index.rejected(), key=itemgetter("file"))
    has_news = result.added or result.reencoded or result.removed or items != before
    if has_news or rejected != rejected_before:
        next_id = max([next_unused_id(index, items), *(item.id + 1 for item in encoded.items)])
        gone = [item.id for item in items if item.key in dropped]
        new = [([item.id for item in shard.items], shard.regions) for shard in encoded.shards if shard.regions]
        manifest = _write(index, shards, rejected, [*objects, *encoded.objects], next_id, (gone, new))
        local_record.commit(index.folder, manifest, encoding.root if encoding else index.root)
    for record in encoded.records:  # those of a killed build stay, for it to resume
        record.unlink()
    with suppress(OSError):
        (index.folder / PARTIAL).rmdir()
    return result


def _write(
    index: Index,
    shards: Sequence[KeptRows],
    rejected: Sequence[dict[str, str]],
    objects: Sequence[Object],
    next_id: int,
    regions_changed: tuple[Sequence[int], Sequence[RegionShard]],
) -> Manifest:
    """Write the tables, and the shards where they changed.

    `regions_changed` are the ids whose old regions no longer count, and the shards with new ones.
    """
    groups = group_shards(shards, pipeline.SHARD_SIZE)
    merged = [merge_shards(index.folder, group) for group in groups]
    spaces = {
        name: facts.model_copy(
            update={
                "shards": tuple(shard.vectors[name] for shard in merged),
                "heads": tuple(shard.heads for shard in merged if shard.heads) if name == "image" else (),
            }
        )
        for name, facts in index.manifest.spaces.items()
    }
    items, old = [item for shard in shards for item in shard.items], index.manifest
    regions = None
    if old.regions is not None:
        files = tuple(shard.regions for shard in merged if shard.regions)
        ids = [[item.id for shard in group for item in shard.items] for group in groups]
        gone, new = regions_changed
        # A graph that this machine did not write is not opened.
        previous = old.regions.graph if index.regions is not None and index.regions.graph is not None else None
        shards_of_ids = list(zip(ids, files, strict=True))
        graph = write_graph(index.folder, shards_of_ids, previous=previous, changes=new, removed=gone)
        regions = old.regions.model_copy(update={"shards": files, "graph": graph})
    return writer.build_manifest(
        index.folder, spaces, items, rejected, objects, next_id=next_id, regions=regions, previous=old
    )
