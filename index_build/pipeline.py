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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, stack
from tqdm import tqdm

from foir import crossmodal, encoders, images
from foir.encoders.base import Encoder, Features
from foir.errors import Unavailable
from foir.index import Index, Item, Object, writer
from foir.index.format import MANIFEST, thumb_name
from index_build.pictures import decoded, listing

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

    `text` names the model whose joint space with words is kept too; None keeps the encoder's own where it has one.
    `notes` go by relative file name; a `portable` index does not remember where the pictures lay.
    """

    folder: Path
    out: Path
    encoder: str
    heads: bool = False
    text: str | None = None
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

    vectors: Mapping[str, str]  # by space
    heads: str | None
    items: tuple[Item, ...]
    rejected: tuple[dict[str, str], ...]


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
    eyes = _eyes(plan)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        with _alone(plan.out):
            return _build(plan, eyes, files)
    except OSError as error:
        raise Unavailable(f"The index {plan.out} cannot be written: {error.strerror or error}.") from error


def _eyes(plan: Plan) -> dict[str, Encoder]:
    """The encoder of each space; a model that knows words serves both, so that its vectors are made and kept once."""
    encoder = encoders.load(plan.encoder, revision=plan.revision, device=plan.device, dtype=plan.dtype)
    known = crossmodal.of_encoders()
    text = plan.text or (plan.encoder if plan.encoder in known else None)
    if text is None:
        return {"image": encoder}
    if text not in known:
        raise Unavailable(f"{text} knows no words for an index; foir has words for {', '.join(known)}.")
    same = text == plan.encoder
    return {"image": encoder, "text": encoder if same else encoders.load(text, device=plan.device, dtype=plan.dtype)}


def _build(plan: Plan, eyes: Mapping[str, Encoder], files: Sequence[str]) -> Built:
    probes = {name: encoder.probe() for name, encoder in eyes.items()}
    made_by = [
        [name, encoder.name, encoder.revision, hashlib.sha256(probes[name].tobytes()).hexdigest()]
        for name, encoder in eyes.items()
    ]
    conf = [made_by, plan.dtype, plan.heads, plan.thumb_side]
    records = plan.out / PARTIAL
    records.mkdir(exist_ok=True)
    done: list[_Shard] = []
    resumed = 0
    with tqdm(total=len(files), unit="picture", desc="index") as bar:
        for first_id in range(0, len(files), SHARD):
            names = files[first_id : first_id + SHARD]
            record = records / f"{_key(plan.folder, names, first_id, conf)}.json"
            shard = _taken_over(plan.out, record)
            if shard is None:
                shard = _make(plan, eyes, names, first_id, bar)
                writer.replace(record, json.dumps(asdict(shard)).encode())
            else:
                resumed += 1
                bar.update(len(names))
            done.append(shard)
    items = [_annotated(item, plan.notes.get(item.file, Note())) for shard in done for item in shard.items]
    rejected = tuple(entry for shard in done for entry in shard.rejected)
    if not items:
        raise Unavailable(f"None of the {len(files)} pictures under {plan.folder} can be read.")
    spaces = {
        name: writer.SpaceFiles(
            encoder.name,
            encoder.revision,
            tuple(probes[name].tolist()),
            shards=tuple(shard.vectors[name] for shard in done if shard.vectors),
            heads=tuple(shard.heads for shard in done if shard.heads) if name == "image" else (),
        )
        for name, encoder in eyes.items()
    }
    known = ((item, plan.notes[item.file].objects) for item in items if item.file in plan.notes)
    objects = [replace(thing, item=item.id) for item, things in known for thing in things]
    root = None if plan.portable else os.path.relpath(plan.folder, plan.out)
    writer.publish(plan.out, spaces, items, rejected, root, objects)
    shutil.rmtree(records)
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


def _make(plan: Plan, eyes: Mapping[str, Encoder], names: Sequence[str], first_id: int, bar: tqdm) -> _Shard:
    items: list[Item] = []
    rejected: list[dict[str, str]] = []
    different = list({id(encoder): encoder for encoder in eyes.values()}.values())
    parts: list[list[Features]] = [[] for _ in different]
    pictures = decoded(plan.folder, names, first_id, different, partial(_thumb, plan), rejected, bar)
    while batch := list(islice(pictures, BATCH)):
        items.extend(picture.item for picture in batch)
        for i, encoder in enumerate(different):
            parts[i].append(encoder.finish(encoder.prefix(stack([picture.pixels[i] for picture in batch]))))
    if not items:
        return _Shard({}, None, (), tuple(rejected))
    files = [writer.write_vectors(plan.out, _joined([part.vectors for part in made])) for made in parts]
    heads = None
    if plan.heads:
        heads = writer.write_heads(
            plan.out, _joined([part.z for part in parts[0]]), _joined([part.residual for part in parts[0]])
        )
    return _Shard({n: files[different.index(e)] for n, e in eyes.items()}, heads, tuple(items), tuple(rejected))


def _thumb(plan: Plan, image: Image.Image) -> str:
    return writer.write_thumb(plan.out, images.thumbnail(image, plan.thumb_side))


def _joined(parts: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([part.float().cpu().numpy() for part in parts])


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
        for name in filter(None, (*shard.vectors.values(), shard.heads)):
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
