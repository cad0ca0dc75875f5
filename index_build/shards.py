"""Runs of pictures made into shards, each recorded when it is whole, so that a killed build goes on behind it.

A record lies in `.partial/` under a key of everything that went into its shard: pictures, encoders, settings. A later
build takes over every shard whose key still matches and whose files are what they were written as.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foir import images
from foir.index import Item, Object, writer
from foir.index.format import digest, thumb_intact
from index_build.decoding import Decoded, decoded
from index_build.eyes import Eyes, MadeBy, Seen
from index_build.sources import Run

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


def make(out: Path, eyes: Eyes, runs: Sequence[Run], *, heads: bool, thumb_side: int, dtype: str) -> Made:
    """Make the runs' shards, or take them over.

    Args:
        out: The index.
        eyes: What encodes the pictures.
        runs: One for each shard.
        heads: Keep a head cache.
        thumb_side: Longer side of the thumbnails in pixels.
        dtype: In which the encoders compute.
    """
    made_by = {name: asdict(made) for name, made in eyes.made_by.items()}
    settings = [made_by, dtype, heads, thumb_side]
    (out / PARTIAL).mkdir(exist_ok=True)
    shards: list[Shard] = []
    records: list[Path] = []
    resumed = 0
    with tqdm(total=sum(map(len, runs)), unit="picture", desc="index") as bar:
        for run in runs:
            key = hashlib.sha256(json.dumps([settings, run.facts()]).encode()).hexdigest()[:32]
            record = out / PARTIAL / f"{key}.json"
            shard = _taken_over(out, record)
            if shard is None:
                shard = _make(out, eyes, run, heads, partial(_thumb, out, thumb_side), bar)
                writer.replace(record, json.dumps(asdict(shard)).encode())
            else:
                resumed += 1
                bar.update(len(run))
            shards.append(shard)
            records.append(record)
    return Made(tuple(shards), resumed, tuple(records))


def _make(out: Path, eyes: Eyes, run: Run, heads: bool, keep_thumb: Any, bar: tqdm) -> Shard:
    seen: list[Seen] = []
    kept: list[Decoded] = []
    rejected: list[dict[str, str]] = []
    pictures = decoded(run.pictures(), eyes.pixels, keep_thumb, rejected, bar)
    while batch := list(islice(pictures, BATCH)):
        seen.append(eyes.see([picture.pixels for picture in batch]))
        kept.extend(Decoded(picture.item, picture.objects, None) for picture in batch)
    if not kept:
        return Shard({}, None, (), (), tuple(rejected))
    files: dict[MadeBy, str] = {}  # spaces of one encoder share their files
    for name, by in eyes.made_by.items():
        if by not in files:
            files[by] = writer.write_vectors(out, np.concatenate([part.vectors[name] for part in seen]))
    vectors = {name: files[by] for name, by in eyes.made_by.items()}
    z, residual = (np.concatenate(parts) for parts in zip(*((part.z, part.residual) for part in seen), strict=True))
    items = tuple(picture.item for picture in kept)
    objects = tuple(
        Object(picture.item.id, thing.box, thing.mask, thing.category, thing.instance, thing.name, thing.source)
        for picture in kept
        for thing in picture.objects
    )
    return Shard(vectors, writer.write_heads(out, z, residual) if heads else None, items, objects, tuple(rejected))


def _thumb(out: Path, side: int, image: Image.Image) -> str:
    return writer.write_thumb(out, images.thumbnail(image, side))


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
        if not all(thumb_intact(out, item.thumb) for item in shard.items):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shard
