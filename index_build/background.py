"""The background of an index whose rows go to a database: a sample whose scores stand for those of all images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foir.index import Index, writer
from foir.index.manifest import FileFacts, RegionFacts, SpaceFacts
from foir.index.records import background_rows


@dataclass(frozen=True)
class BackgroundFiles:
    """Files of each space and of the regions, and their digests; none where the index has no regions."""

    spaces: Mapping[str, SpaceFacts]
    regions: RegionFacts | None
    files: Mapping[str, FileFacts]


def write_background(index: Index) -> BackgroundFiles:
    """Write vectors, head cache and regions of the rows of a background (`background_rows`) into an index's folder.

    Raises:
        BadIndex: A file is not what was written.
    """
    sample, facts, folder = index.subset(background_rows(len(index))), index.manifest.spaces, index.folder
    regions = sample.regions
    if regions is None:
        empty = {name: each.model_copy(update={"shards": (), "heads": ()}) for name, each in facts.items()}
        return BackgroundFiles(empty, None, {})
    written = {}
    for name, space in sample.spaces.items():
        shards = (writer.write_vectors(folder, space.shards[0]),)
        heads = (writer.write_heads(folder, space.z[0], space.residual[0]),) if space.z else ()
        written[name] = facts[name].model_copy(update={"shards": shards, "heads": heads})
    shard = writer.write_regions(folder, regions.vectors[0], regions.boxes[0], regions.starts[0])
    names = {name for space in written.values() for name in (*space.shards, *space.heads)} | {shard}
    region_facts = RegionFacts(recipe=regions.recipe, shards=(shard,))
    return BackgroundFiles(written, region_facts, {name: writer.file_facts(folder, name) for name in sorted(names)})
