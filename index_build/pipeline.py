"""Building an index: list the images, encode them chunk by chunk, write shards, publish one manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from foir.errors import Unavailable
from foir.index import local_record, writer
from foir.index.gc import remove_unused
from foir.index.lock import exclusive_lock
from foir.index.manifest import Manifest, RegionFacts, SpaceFacts
from foir.regions.recipe import RegionRecipe

from .backends import open_executor, open_store
from .encoding import LoadedEncoders, SpaceEncoders, load_encoders
from .executor import Executor
from .first_dtype import first_dtype, keep_dtype
from .region_graph import write_graph
from .region_mean import centre
from .shards import PARTIAL, ShardSet, write_shards
from .sources import Chunk, Metadata, Source
from .sources.folder import FolderSource

SHARD_SIZE = 1024  # images of a shard, and what a killed build can lose


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        source: A folder, or another source of images.
        out: The folder of the index.
        encoder: Registry name for the `image` space.
        heads: Write a head cache, for search in `query-db` mode.
        text: The model of the `text` space; None takes `encoder` if it has a text tower.
        regions: How region vectors are made; None for none.
        revision: Of the encoder's weights.
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16", "float16" or "auto" (`foir.encoders.resolve_dtype`).
        metadata: What is known about images of a folder, by relative file name.
        thumb_side: Longer side of the thumbnails in pixels.
        portable: Do not follow the image folder: keep nothing that an update needs.
        ray: Address of a Ray cluster to build on, "local" for one on this machine.
        store: Where to keep the rows instead of files, "milvus:URI".
    """

    source: Path | Source
    out: Path
    encoder: str
    heads: bool = False
    text: str | None = None
    regions: RegionRecipe | None = RegionRecipe()  # noqa: RUF009 - frozen
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    metadata: Mapping[str, Metadata] = field(default_factory=dict)
    thumb_side: int = 320
    portable: bool = False
    ray: str | None = None
    store: str | None = None


@dataclass(frozen=True)
class BuildResult:
    """How many images an index holds, which were rejected and why, and how many shards were taken over."""

    image_count: int
    rejected: tuple[dict[str, str], ...]
    resumed: int


def build(plan: Plan, encoders: SpaceEncoders | None = None) -> BuildResult:
    """Build an index, or finish one that was interrupted.

    Args:
        plan: What to build.
        encoders: Use these instead of the plan's.

    Raises:
        Unavailable: The source holds no readable image, the index cannot be written, another build is running, or an
            encoder cannot be loaded.
    """
    store = open_store(plan.store)
    source = FolderSource(plan.source, plan.out, plan.metadata) if isinstance(plan.source, Path) else plan.source
    chunks = source.chunks(SHARD_SIZE)
    count = sum(map(len, chunks))
    if plan.dtype == "auto":
        plan = replace(plan, dtype=first_dtype(plan.out, plan.encoder, plan.device))
    loaded = encoders or _load(plan, plan.regions)
    with exclusive_lock(plan.out, create=True):
        keep_dtype(plan.out, loaded.records["image"])
        executor = open_executor(plan.ray, _encoder_loader(plan, loaded, chunks), plan.out, plan.thumb_side)
        shards = write_shards(plan.out, executor, chunks, heads=plan.heads, thumb_side=plan.thumb_side)
        if not shards.items:
            where = f" under {source.root}" if source.root else ""
            raise Unavailable(f"None of the {count} images{where} can be read.")
        rejected = (*source.rejected, *shards.rejected)
        root = None if plan.portable or source.root is None else source.root
        manifest = _build_manifest(
            plan, executor, shards, rejected=rejected, next_id=count, keeps_stamps=root is not None
        )
        local_record.commit(plan.out, store.keep(plan.out, manifest), root)
        store.finish(plan.out)
        shutil.rmtree(plan.out / PARTIAL)
        remove_unused(plan.out)
    return BuildResult(len(shards.items), rejected, shards.resumed)


def _load(plan: Plan, recipe: RegionRecipe | None) -> LoadedEncoders:
    return load_encoders(plan.encoder, plan.text, recipe, revision=plan.revision, device=plan.device, dtype=plan.dtype)


def _encoder_loader(plan: Plan, loaded: SpaceEncoders, chunks: Sequence[Chunk]) -> Callable[[], SpaceEncoders]:
    """Loads the encoders with their recipe of regions complete; the workers of a cluster call it too."""
    if not isinstance(loaded, LoadedEncoders):
        return lambda: loaded
    complete = centre(loaded, plan.out, chunks)
    if plan.ray is None:
        return lambda: complete
    return partial(_load, plan, None if complete.regions is None else complete.regions.recipe)


def _build_manifest(
    plan: Plan,
    executor: Executor,
    shards: ShardSet,
    *,
    rejected: tuple[dict[str, str], ...],
    next_id: int,
    keeps_stamps: bool,
) -> Manifest:
    """Write the tables of an index; see `foir.index.writer.build_manifest`."""
    spaces = {
        name: SpaceFacts(
            encoder=record.encoder,
            revision=record.revision,
            dtype=record.dtype,
            reference_feature=record.reference_feature,
            shards=tuple(shard.vectors[name] for shard in shards.shards if shard.vectors),
            heads=tuple(shard.heads for shard in shards.shards if shard.heads) if name == "image" else (),
        )
        for name, record in executor.records.items()
    }
    items = shards.items
    if not keeps_stamps:  # no update will compare the files
        items = [replace(item, bytes=None, modified=None, content=None) for item in items]
    regions = None
    if executor.region_recipe:
        files = tuple(shard.regions for shard in shards.shards if shard.regions)
        ids = [[item.id for item in shard.items] for shard in shards.shards if shard.regions]
        graph = None if plan.store else write_graph(plan.out, list(zip(ids, files, strict=True)))
        regions = RegionFacts(recipe=executor.region_recipe, shards=files, graph=graph)
    return writer.build_manifest(plan.out, spaces, items, rejected, shards.objects, next_id=next_id, regions=regions)
