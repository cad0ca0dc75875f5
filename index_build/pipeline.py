"""From pictures to an index: decode ahead in threads, encode in batches, write shards, resume when killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from foir.errors import Unavailable
from foir.index import writer
from foir.index.gc import remove_unused
from foir.index.lock import exclusive_lock
from index_build import encoding as sight
from index_build import milvus_collections
from index_build.encoding import Eyes
from index_build.shards import PARTIAL, Hands, make
from index_build.sources.folder import Folder, Note, Source

SHARD = 1024  # pictures a shard covers, and what a killed build can lose


@dataclass(frozen=True)
class Plan:
    """What to build: an index of `pictures`, a folder or another source, in `out`, with `encoder`.

    `heads` keeps a head cache. `text` names the model whose joint space with words is kept too; None keeps the
    encoder's own where it has one. `objects` "mao" keeps a vector that stands for all objects of a picture. `notes` go
    by relative file name; a `portable` index does not remember where the pictures lay. `ray` is the address of a
    cluster that does the work, "local" for one on this machine (`index_build.ray_executor`).
    `store` is where the rows are kept in the place of files, "milvus:URI" (`index_build.milvus_store`).
    """

    pictures: Path | Source
    out: Path
    encoder: str
    heads: bool = False
    text: str | None = None
    objects: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    notes: Mapping[str, Note] = field(default_factory=dict)
    thumb_side: int = 320
    portable: bool = False
    ray: str | None = None
    store: str | None = None


@dataclass(frozen=True)
class Built:
    """How many pictures an index holds, what was left out and why, and how many shards an earlier build had made."""

    pictures: int
    rejected: tuple[dict[str, str], ...]
    resumed: int


def build(plan: Plan, eyes: Eyes | None = None) -> Built:
    """Build an index, or finish one that was interrupted.

    Args:
        plan: What to build.
        eyes: Take these in the place of the plan's encoders.

    Raises:
        Unavailable: The source holds no readable picture, the index cannot be written, another build is at work on it,
            or an encoder cannot be loaded.
    """
    kept = None if plan.store is None else _uri(plan.store)
    source = plan.pictures if not isinstance(plan.pictures, Path) else Folder(plan.pictures, plan.out, plan.notes)
    runs = source.runs(SHARD)
    opened = partial(
        sight.opened,
        plan.encoder,
        plan.text,
        plan.objects,
        revision=plan.revision,
        device=plan.device,
        dtype=plan.dtype,
    )
    hands: Hands | None = None
    if plan.ray is not None:
        from index_build import ray_executor

        eyes = here = opened()
        hands = ray_executor.hands(plan.ray, here.frames, opened, here.made_by, plan.out, plan.thumb_side)
    eyes = eyes or opened()
    with exclusive_lock(plan.out, create=True):
        made = make(plan.out, eyes, runs, heads=plan.heads, thumb_side=plan.thumb_side, dtype=plan.dtype, hands=hands)
        items = [item for shard in made.shards for item in shard.items]
        rejected = (*source.rejected, *(entry for shard in made.shards for entry in shard.rejected))
        if not items:
            where = f" under {source.root}" if source.root else ""
            raise Unavailable(f"None of the {sum(map(len, runs))} pictures{where} can be read.")
        spaces = {
            name: writer.SpaceFiles(
                by.encoder,
                by.revision,
                by.probe,
                shards=tuple(shard.vectors[name] for shard in made.shards if shard.vectors),
                heads=tuple(shard.heads for shard in made.shards if shard.heads) if name == "image" else (),
                recipe=by.way,
            )
            for name, by in eyes.made_by.items()
        }
        remembered = (
            None if plan.portable or source.root is None else os.path.relpath(source.root.resolve(), plan.out.resolve())
        )
        if remembered is None:
            items = [replace(item, bytes=None, modified=None) for item in items]
        objects = [thing for shard in made.shards for thing in shard.objects]
        manifest = writer.build_manifest(
            plan.out, spaces, items, rejected, remembered, objects, next_id=sum(map(len, runs))
        )
        if kept is not None:
            manifest = milvus_collections.send(plan.out, manifest, kept)
        writer.write_manifest(plan.out, manifest)
        shutil.rmtree(plan.out / PARTIAL)
        remove_unused(plan.out)
    return Built(len(items), rejected, made.resumed)


def _uri(store: str) -> str:
    """The address of a store, which answers; before anything is encoded."""
    from foir.index.milvus import connect
    from index_build import milvus_store

    uri = milvus_store.uri_of(store)
    connect(uri)
    return uri
