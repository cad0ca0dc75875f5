"""Rot: a byte of a file changes on the disk, by itself. What opening, `verify` and `update` notice of it."""

import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from foir.errors import FoirError
from foir.index import Index, digest_cache, local_record
from foir.index.format import MANIFEST
from foir.index.manifest import read_manifest
from index_build import maintenance, pipeline, update
from tests import kill_points
from tests.foir.index.hostile.draft import SHARD, make_valid
from tests.kill_points import StandIn

KINDS = ("manifest", "vectors", "heads", "items", "objects", "rejected", "thumb")
PLACES = 12


def measure() -> list[str]:
    found = flipped()
    total = found.pop("flips")
    told = f"opening noticed {found['open']}, a thumbnail at its first use included, verify {found['verify']}"
    gone = total - found["refused"] - found["kept"] - found["signed"]
    late = f"flipped after the files were verified once, update refused {found['refused']}, wrote {gone} anew"
    return [f"{total} bytes flipped: {told}", f"{late}, left {found['kept']} for verify, and signed {found['signed']}"]


def flipped(places: int = PLACES) -> Counter[str]:
    """How many flips there were, and what noticed them."""
    found: Counter[str] = Counter()
    usual, pipeline.SHARD_SIZE = pipeline.SHARD_SIZE, SHARD
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        try:
            valid = make_valid(base / "valid", portable=False).parent
            index = _own(shutil.copytree(valid, base / "sound"))
            kill_points.others(base / "sound" / "pictures")
            update.update(index, encoders=StandIn())
            expected = _digest(index)
            for kind in KINDS:
                for place in range(places):
                    found["flips"] += 1
                    found += _fresh(valid, base / "case", kind, place)
                    found += _late(valid, base / "case", kind, place, expected)
        finally:
            pipeline.SHARD_SIZE = usual
    return found


def _own(case: Path) -> Path:
    """A copy of the index, that this machine takes for its own."""
    index = case / "index"
    local_record.commit(index, read_manifest(index), case / "pictures")
    return index


def _file(index: Path, kind: str) -> Path:
    manifest = json.loads((index / MANIFEST).read_text())
    space = manifest["spaces"]["image"]
    names = {"manifest": "manifest.json", "vectors": space["shards"][0], "heads": space["heads"][0]} | manifest
    if kind != "thumb":
        return index / names[kind]
    digest = pq.read_table(index / manifest["items"])["thumb"][0].as_py()
    return index / "thumbs" / digest[:2] / f"{digest}.jpg"


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    at = {0: 0, 1: len(data) - 1}.get(place, random.Random(place).randrange(len(data)))
    data[at] ^= 1 << place % 8
    path.write_bytes(data)


def _notices(work: Callable[[], object]) -> bool:
    try:
        return bool(work())
    except FoirError:
        return True


def _fresh(valid: Path, case: Path, kind: str, place: int) -> Counter[str]:
    index = shutil.copytree(valid, case) / "index"
    _flip(_file(index, kind), place)

    def opened() -> bool:
        opened = Index.open(index)
        for item in opened.items():
            opened.thumb(item)
        return False

    seen = Counter({"open": _notices(opened), "verify": _notices(lambda: maintenance.find_damage(index))})
    shutil.rmtree(case)
    return seen


def _late(valid: Path, case: Path, kind: str, place: int, expected: str) -> Counter[str]:
    """The byte flips after the files were verified, and no size or time tells; then comes an update."""
    index = _own(shutil.copytree(valid, case))
    path = _file(index, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_cache, "_stamp", lambda folder, name, facts: [facts.sha256, 0, 0, 0, 0])
        Index.open(index)
        _flip(path, place)
        kill_points.others(case / "pictures")
        refused = _notices(lambda: update.update(index, encoders=StandIn()) and False)
        kept = not refused and _notices(lambda: maintenance.find_damage(index))
    signed = not refused and not kept and _digest(index) != expected
    shutil.rmtree(case)
    return Counter({"refused": refused, "kept": kept, "signed": signed})


def _digest(index: Path) -> str:
    return str(json.loads((index / MANIFEST).read_text())["digest"])
