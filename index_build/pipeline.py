"""From a folder of pictures to an index: decode ahead in threads, encode in batches, write shards, resume when killed.

A shard covers a fixed run of the sorted listing. When it is written, a record of it is kept in `.partial/` under a key
made of everything that went into it; a later build takes over every shard whose key and file still match. Ids are
positions in the listing, so a file that cannot be read never shifts another's id.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, stack
from tqdm import tqdm

from foir import encoders, images
from foir.encoders.base import Encoder, Features
from foir.errors import BadImage, Unavailable
from foir.index import Index, Item, Object, writer
from foir.index.format import MANIFEST, thumb_name

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
SHARD = 1024  # files a shard covers, and what a killed build can lose
BATCH = 16  # larger ones are slower on a CPU: their tensors no longer come from the allocator's pool
PARTIAL = ".partial"


@dataclass(frozen=True)
class Note:
    """What is known of a picture beforehand; `objects` need no item id yet."""

    caption: str | None = None
    source: str | None = None
    licence: str | None = None
    objects: tuple[Object, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to build: pictures under `folder` into `out`, with `encoder`, and a head cache if `heads`.

    `notes` go by relative file name; a `portable` index does not remember where the pictures lay.
    """

    folder: Path
    out: Path
    encoder: str
    heads: bool = False
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    notes: Mapping[str, Note] = field(default_factory=dict)
    thumb_side: int = 320
    portable: bool = False


@dataclass(frozen=True)
class Built:
    """How many pictures an index holds, what was left out and why, and how many shards an earlier build had made."""

    pictures: int
    rejected: tuple[dict[str, str], ...]
    resumed: int


@dataclass(frozen=True)
class _Shard:
    """A finished shard's record: its files (none where every picture was rejected), items and rejected files."""

    vectors: str | None
    heads: str | None
    items: tuple[Item, ...]
    rejected: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class _Decoded:
    item: Item
    pixels: Tensor


def build(plan: Plan) -> Built:
    """Build an index, or finish one that was interrupted.

    Raises:
        Unavailable: The folder holds no readable picture, the index cannot be written, another build is at work on it,
            or the encoder cannot be loaded.
    """
    if not plan.folder.is_dir():
        raise Unavailable(f"There is no folder {plan.folder}.")
    if plan.folder.resolve() == plan.out.resolve():
        raise Unavailable("The index cannot lie in the folder of the pictures itself: choose another place for it.")
    files = listing(plan.folder, plan.out)
    if not files:
        raise Unavailable(f"The folder {plan.folder} holds no pictures.")
    encoder = encoders.load(plan.encoder, revision=plan.revision, device=plan.device, dtype=plan.dtype)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        with _alone(plan.out):
            return _build(plan, encoder, files)
    except OSError as error:
        raise Unavailable(f"The index {plan.out} cannot be written: {error.strerror or error}.") from error


def listing(folder: Path, out: Path) -> list[str]:
    """Files under `folder` with a picture's suffix, relative and sorted; hidden ones and the index itself left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        base = Path(parent)
        folders[:] = [n for n in folders if not n.startswith(".") and (base / n).resolve() != out.resolve()]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append((base / name).relative_to(folder).as_posix())
    return sorted(found)


def _build(plan: Plan, encoder: Encoder, files: Sequence[str]) -> Built:
    probe = encoder.probe()
    weights = hashlib.sha256(probe.tobytes()).hexdigest()
    conf = [encoder.name, encoder.revision, weights, plan.dtype, plan.heads, plan.thumb_side]
    partial = plan.out / PARTIAL
    partial.mkdir(exist_ok=True)
    done: list[_Shard] = []
    resumed = 0
    with tqdm(total=len(files), unit="picture", desc="index") as bar:
        for first_id in range(0, len(files), SHARD):
            names = files[first_id : first_id + SHARD]
            record = partial / f"{_key(plan.folder, names, first_id, conf)}.json"
            shard = _taken_over(plan.out, record)
            if shard is None:
                shard = _make(plan, encoder, names, first_id, bar)
                writer.replace(record, json.dumps(asdict(shard)).encode())
            else:
                resumed += 1
                bar.update(len(names))
            done.append(shard)
    items = [_annotated(item, plan.notes.get(item.file, Note())) for shard in done for item in shard.items]
    rejected = tuple(entry for shard in done for entry in shard.rejected)
    if not items:
        raise Unavailable(f"None of the {len(files)} pictures under {plan.folder} can be read.")
    space = writer.SpaceFiles(
        encoder.name,
        encoder.revision,
        tuple(probe.tolist()),
        shards=tuple(shard.vectors for shard in done if shard.vectors),
        heads=tuple(shard.heads for shard in done if shard.heads),
    )
    known = ((item, plan.notes[item.file].objects) for item in items if item.file in plan.notes)
    objects = [replace(thing, item=item.id) for item, things in known for thing in things]
    root = None if plan.portable else os.path.relpath(plan.folder, plan.out)
    writer.publish(plan.out, {"image": space}, items, rejected, root, objects)
    shutil.rmtree(partial)
    _sweep(plan.out)
    return Built(len(items), rejected, resumed)


def _sweep(out: Path) -> None:
    """Remove what an earlier build or a killed one left behind; the folder is ours while it is locked."""
    index = Index.open(out)
    kept = {MANIFEST, *index.manifest["files"]}
    for path in out.iterdir():
        if path.is_file() and path.name not in kept and path.suffix in {".safetensors", ".parquet", ".jsonl", ".part"}:
            path.unlink()
    thumbs = set(map(thumb_name, index.thumbs()))
    for path in (out / "thumbs").rglob("*.*"):
        if path.relative_to(out).as_posix() not in thumbs:
            path.unlink()


def _annotated(item: Item, note: Note) -> Item:
    return replace(item, caption=note.caption, source=note.source, licence=note.licence)


def _make(plan: Plan, encoder: Encoder, names: Sequence[str], first_id: int, bar: tqdm) -> _Shard:
    items: list[Item] = []
    rejected: list[dict[str, str]] = []
    parts: list[Features] = []
    pictures = _decoded(plan, encoder, names, first_id, rejected, bar)
    while batch := list(islice(pictures, BATCH)):
        items.extend(picture.item for picture in batch)
        parts.append(encoder.finish(encoder.prefix(stack([picture.pixels for picture in batch]))))
    if not items:
        return _Shard(None, None, (), tuple(rejected))
    vectors = writer.write_vectors(plan.out, np.concatenate([part.vectors.cpu().numpy() for part in parts]))
    heads = None
    if plan.heads:
        z = np.concatenate([part.z.float().cpu().numpy() for part in parts])
        residual = np.concatenate([part.residual.float().cpu().numpy() for part in parts])
        heads = writer.write_heads(plan.out, z, residual)
    return _Shard(vectors, heads, tuple(items), tuple(rejected))


def _decoded(
    plan: Plan,
    encoder: Encoder,
    names: Sequence[str],
    first_id: int,
    rejected: list[dict[str, str]],
    bar: tqdm,
) -> Iterator[_Decoded]:
    """Readable pictures in listing order, decoded at most two batches ahead of the encoder."""
    workers = max(2, os.cpu_count() or 1)

    def decode(place: int) -> _Decoded:
        name = names[place]
        if _shown(name) != name:
            raise BadImage(f"{_shown(name)} has a name that is not UTF-8: rename the file.")
        photo = images.read(plan.folder / name)
        thumb = writer.write_thumb(plan.out, images.thumbnail(photo.image, plan.thumb_side))
        item = Item(first_id + place, name, *photo.size, caption=None, source=None, licence=None, thumb=thumb)
        return _Decoded(item, encoder.pixels([photo.image])[0])

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[_Decoded]] = deque()
        try:
            for place in range(len(names) + 2 * BATCH):
                if place < len(names):
                    ahead.append(pool.submit(decode, place))
                if place >= 2 * BATCH and ahead:
                    number = place - 2 * BATCH
                    try:
                        picture = ahead.popleft().result()
                    except BadImage as error:
                        rejected.append({"file": _shown(names[number]), "reason": str(error)})
                    else:
                        yield picture
                    bar.update()
        finally:
            for waiting in ahead:
                waiting.cancel()


def _shown(name: str) -> str:
    """A file name with what is not UTF-8 replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _key(folder: Path, names: Sequence[str], first_id: int, conf: Sequence[Any]) -> str:
    facts: list[Any] = [list(conf), first_id]
    for name in names:
        try:
            stat = (folder / name).stat()
            facts.append([name, stat.st_size, stat.st_mtime_ns])
        except OSError:
            facts.append([name, None, None])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _taken_over(out: Path, record: Path) -> _Shard | None:
    """The shard an earlier build recorded, if its files are whole; files are named by their content."""
    try:
        data = json.loads(record.read_bytes())
        shard = _Shard(
            data["vectors"], data["heads"], tuple(Item(**item) for item in data["items"]), tuple(data["rejected"])
        )
        for name in filter(None, (shard.vectors, shard.heads)):
            with (out / name).open("rb") as file:
                if not name.startswith(hashlib.file_digest(file, "sha256").hexdigest()[:32]):
                    return None
        for item in shard.items:
            if hashlib.sha256((out / thumb_name(item.thumb)).read_bytes()).hexdigest() != item.thumb:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shard


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder itself locked; a lock file could be left behind, this cannot."""
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"Another build is at work on {out}.") from None
        yield
    finally:
        os.close(descriptor)
