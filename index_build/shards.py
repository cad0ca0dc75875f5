"""Writing chunks of images as shards. Each finished shard is recorded, so a killed build resumes after it.

The record of a shard lies in `.partial/` under a key of everything that determines the shard: images, encoders and
settings. A later build takes over each shard whose key matches and whose files are intact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from foir.index import Item, Object, writer
from foir.index.format import digest, is_thumb_intact

from .encoding import EncodedBatch, EncoderRecord
from .executor import Batch, Executor
from .sources import Chunk

PARTIAL = ".partial"


@dataclass(frozen=True)
class Shard:
    """A finished chunk.

    Attributes:
        vectors: Its file of each space; empty where every image was rejected.
        heads: Its file of the head cache, where there is one.
        regions: Its file of regions, where there are any.
        items: Its images.
        objects: Their known objects.
        rejected: `{"file": ..., "reason": ...}` for each unreadable image.
    """

    vectors: Mapping[str, str]
    heads: str | None
    regions: str | None
    items: tuple[Item, ...]
    objects: tuple[Object, ...]
    rejected: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class ShardSet:
    """All shards of a build in order, how many of them were taken over, and the files of their records."""

    shards: tuple[Shard, ...] = ()
    resumed: int = 0
    records: tuple[Path, ...] = ()

    @property
    def items(self) -> list[Item]:
        """The images of all shards."""
        return [item for shard in self.shards for item in shard.items]

    @property
    def objects(self) -> list[Object]:
        """The known objects of all shards."""
        return [known for shard in self.shards for known in shard.objects]

    @property
    def rejected(self) -> list[dict[str, str]]:
        """The unreadable images of all shards."""
        return [entry for shard in self.shards for entry in shard.rejected]


def write_shards(out: Path, executor: Executor, chunks: Sequence[Chunk], *, heads: bool, thumb_side: int) -> ShardSet:
    """Encode chunks and write their shards, or take over those of a killed build.

    Args:
        out: The index.
        executor: Encodes the chunks.
        chunks: One for each shard.
        heads: Write a head cache.
        thumb_side: Longer side of the thumbnails in pixels.
    """
    encoders = {name: asdict(record) for name, record in executor.records.items()}
    settings = [encoders, executor.region_recipe, heads, thumb_side]
    (out / PARTIAL).mkdir(exist_ok=True)
    records = [out / PARTIAL / f"{_key(settings, chunk)}.json" for chunk in chunks]
    shards = [_load_shard(out, record) for record in records]
    missing = [position for position, shard in enumerate(shards) if shard is None]
    with tqdm(total=sum(map(len, chunks)), unit="image", desc="index") as bar:
        bar.update(sum(len(chunk) for chunk, shard in zip(chunks, shards, strict=True) if shard is not None))
        for position, batches in zip(missing, executor.run([chunks[position] for position in missing]), strict=False):
            shard = _write_shard(out, executor.records, batches, heads, bar)
            writer.atomic_write(records[position], json.dumps(asdict(shard)).encode())
            shards[position] = shard
    return ShardSet(tuple(filter(None, shards)), len(chunks) - len(missing), tuple(records))


def _write_shard(
    out: Path, records: Mapping[str, EncoderRecord], batches: Iterable[Batch], heads: bool, bar: tqdm
) -> Shard:
    done = []
    for batch in batches:
        done.append(batch)
        bar.update(len(batch.items) + len(batch.rejected))
    rejected = tuple(asdict(image) for batch in done for image in batch.rejected)
    features = [batch.features for batch in done if batch.features is not None]
    if not features:
        return Shard({}, None, None, (), (), rejected)
    files: dict[EncoderRecord, str] = {}  # spaces of one encoder share their file
    for name, record in records.items():
        if record not in files:
            files[record] = writer.write_vectors(out, np.concatenate([batch.vectors[name] for batch in features]))
    cache = None
    if heads:
        z, residual = (np.concatenate([getattr(batch, part) for batch in features]) for part in ("z", "residual"))
        cache = writer.write_heads(out, z, residual)
    vectors = {name: files[record] for name, record in records.items()}
    items = tuple(item for batch in done for item in batch.items)
    writer.sync_thumbs(out, [item.thumb for item in items])
    objects = tuple(known for batch in done for known in batch.objects)
    return Shard(vectors, cache, _write_regions(out, features), items, objects, rejected)


def _write_regions(out: Path, features: Sequence[EncodedBatch]) -> str | None:
    regions = [picture for batch in features for picture in batch.regions]
    if not regions:
        return None
    starts = np.cumsum([0, *(len(picture.vectors) for picture in regions)])
    vectors, boxes = (np.concatenate([getattr(each, part) for each in regions]) for part in ("vectors", "boxes"))
    return writer.write_regions(out, vectors, boxes, starts)


def _key(settings: Sequence[Any], chunk: Chunk) -> str:
    return hashlib.sha256(json.dumps([settings, chunk.fingerprint()]).encode()).hexdigest()[:32]


def _load_shard(out: Path, record: Path) -> Shard | None:
    """The shard that an earlier build recorded, if its files are intact: they are named by their content."""
    try:
        data = json.loads(record.read_bytes())
        shard = Shard(
            data["vectors"],
            data["heads"],
            data["regions"],
            tuple(Item(**item) for item in data["items"]),
            tuple(Object(**{**known, "box": tuple(known["box"])}) for known in data["objects"]),
            tuple(data["rejected"]),
        )
        files = filter(None, (*shard.vectors.values(), shard.heads, shard.regions))
        intact = all(name.startswith(digest(out / name)[:32]) for name in files)
        return shard if intact and all(is_thumb_intact(out, item.thumb) for item in shard.items) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
