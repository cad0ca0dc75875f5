"""Runs of pictures made into shards, each recorded when it is whole, so that a killed build goes on behind it.

A record lies in `.partial/` under a key of everything that went into its shard: pictures, encoders, settings. A later
build takes over every shard whose key still matches and whose files are what they were written as.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foir import images
from foir.index import Item, Object, writer
from foir.index.format import digest, is_thumb_intact
from index_build.decoding import Decoded, Rejected, decoded
from index_build.encoding import Eyes, MadeBy, Seen
from index_build.sources.folder import Run

BATCH = 16  # larger ones are slower on a CPU: their tensors no longer come from the allocator's pool
PARTIAL = ".partial"


@dataclass(frozen=True)
class Shard:
    """A finished run: its files (none where every picture was rejected), items, objects and rejected files."""

    vectors: Mapping[str, str]  # by space
    heads: str | None
    items: tuple[Item, ...]
    objects: tuple[Object, ...]
    rejected: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Made:
    """All shards in order, how many of them an earlier build had made, and their records."""

    shards: tuple[Shard, ...]
    resumed: int
    records: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """`BATCH` consecutive pictures of a run, fewer at its end: what is kept of those that can be read, and the others.

    `seen` is None where none can be read.
    """

    items: tuple[Item, ...]
    objects: tuple[Object, ...]
    rejected: tuple[Rejected, ...]
    seen: Seen | None


# What makes the batches of some runs, run after run.
Hands = Callable[[Sequence[Run]], Iterator[Iterable[Batch]]]


def make(
    out: Path, eyes: Eyes, runs: Sequence[Run], *, heads: bool, thumb_side: int, dtype: str, hands: Hands | None = None
) -> Made:
    """Make the runs' shards, or take them over.

    Args:
        out: The index.
        eyes: What encodes the pictures.
        runs: One for each shard.
        heads: Keep a head cache.
        thumb_side: Longer side of the thumbnails in pixels.
        dtype: In which the encoders compute.
        hands: Make the batches; by default this process does, with these eyes.
    """
    made_by = {name: asdict(made) for name, made in eyes.made_by.items()}
    settings = [made_by, dtype, heads, thumb_side]
    (out / PARTIAL).mkdir(exist_ok=True)
    records = [out / PARTIAL / f"{_key(settings, run)}.json" for run in runs]
    shards = [_taken_over(out, record) for record in records]
    resumed = sum(shard is not None for shard in shards)
    missing = [place for place, shard in enumerate(shards) if shard is None]
    hands = hands or here(eyes, out, thumb_side)
    with tqdm(total=sum(map(len, runs)), unit="picture", desc="index") as bar:
        bar.update(sum(len(run) for run, shard in zip(runs, shards, strict=True) if shard is not None))
        for place, batches in zip(missing, hands([runs[place] for place in missing]), strict=False):
            shard = _made(out, eyes, batches, heads, bar)
            writer.atomic_write(records[place], json.dumps(asdict(shard)).encode())
            shards[place] = shard
    return Made(tuple(shard for shard in shards if shard is not None), resumed, tuple(records))


def here(eyes: Eyes, out: Path, thumb_side: int) -> Hands:
    """This process's own hands."""

    def keep(image: Image.Image) -> str:
        return writer.write_thumb(out, images.thumbnail(image, thumb_side))

    def batches(run: Run) -> Iterator[Batch]:
        for some in batched(decoded(run.pictures(), eyes.pixels, keep)):
            pictures = [one for one in some if isinstance(one, Decoded)]
            yield batch_of(some, eyes.see([picture.pixels for picture in pictures]) if pictures else None)

    return lambda runs: map(batches, runs)


def batched(pictures: Iterator[Decoded | Rejected]) -> Iterator[list[Decoded | Rejected]]:
    """Pictures by the batch; those that cannot be read count, so that a batch does not depend on who decodes it."""
    while some := list(islice(pictures, BATCH)):
        yield some


def batch_of(some: Sequence[Decoded | Rejected], seen: Seen | None) -> Batch:
    """What an index keeps of some pictures."""
    kept = [one for one in some if isinstance(one, Decoded)]
    objects = tuple(replace(thing, item=one.item.id) for one in kept for thing in one.objects)
    return Batch(
        tuple(one.item for one in kept), objects, tuple(one for one in some if isinstance(one, Rejected)), seen
    )


def _made(out: Path, eyes: Eyes, batches: Iterable[Batch], heads: bool, bar: tqdm) -> Shard:
    seen: list[Seen] = []
    items: list[Item] = []
    objects: list[Object] = []
    rejected: list[dict[str, str]] = []
    for batch in batches:
        items += batch.items
        objects += batch.objects
        rejected += [asdict(one) for one in batch.rejected]
        seen += [batch.seen] if batch.seen is not None else []
        bar.update(len(batch.items) + len(batch.rejected))
    if not seen:
        return Shard({}, None, (), (), tuple(rejected))
    files: dict[MadeBy, str] = {}  # spaces of one encoder share their files
    for name, by in eyes.made_by.items():
        if by not in files:
            files[by] = writer.write_vectors(out, np.concatenate([part.vectors[name] for part in seen]))
    vectors = {name: files[by] for name, by in eyes.made_by.items()}
    z, residual = (np.concatenate(parts) for parts in zip(*((part.z, part.residual) for part in seen), strict=True))
    cache = writer.write_heads(out, z, residual) if heads else None
    return Shard(vectors, cache, tuple(items), tuple(objects), tuple(rejected))


def _key(settings: Sequence[Any], run: Run) -> str:
    return hashlib.sha256(json.dumps([settings, run.facts()]).encode()).hexdigest()[:32]


def _taken_over(out: Path, record: Path) -> Shard | None:
    """The shard that an earlier build recorded, if its files are whole; files are named by their content."""
    try:
        data = json.loads(record.read_bytes())
        shard = Shard(
            data["vectors"],
            data["heads"],
            tuple(Item(**item) for item in data["items"]),
            tuple(Object(**{**thing, "box": tuple(thing["box"])}) for thing in data["objects"]),
            tuple(data["rejected"]),
        )
        for name in filter(None, (*shard.vectors.values(), shard.heads)):
            if not name.startswith(digest(out / name)[:32]):
                return None
        if not all(is_thumb_intact(out, item.thumb) for item in shard.items):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shard
