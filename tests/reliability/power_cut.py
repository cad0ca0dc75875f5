"""State after a power cut: the worst disk that a cut at any moment may leave holds the old or the new index, whole."""

import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from foir.errors import FoirError
from foir.index import Index
from index_build import maintenance, pipeline
from tests import kill_points

from .disk import Kept, recorded

OPERATIONS = ("build", "rebuild", "update", "add", "remove", "gc")


def measure() -> str:
    seen = cut()
    states = sum(seen.values())
    bad = {name: number for name, number in seen.items() if name not in ("old", "new")}
    found = "; ".join(f"{number} {name}" for name, number in sorted(bad.items())) or "0 damaged"
    return f"{states} states of the disk after a power cut: {seen['old']} the old index, {seen['new']} the new; {found}"


def cut(operations: tuple[str, ...] = OPERATIONS, every: int = 1) -> Counter[str]:
    """How the index was found after cutting power at every `every`-th moment of operations, in every way."""
    seen: Counter[str] = Counter()
    usual, pipeline.SHARD_SIZE = pipeline.SHARD_SIZE, 4
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in operations:
                seen += _cut(name, Path(folder).resolve() / name, every)
        finally:
            pipeline.SHARD_SIZE = usual
    return seen


def _cut(name: str, base: Path, every: int) -> Counter[str]:
    out, pictures = base / "index", base / "pictures"
    kill_points.pictures(pictures)
    operations = kill_points.operations(pictures, out)
    out.mkdir()
    if name != "build":
        operations["build"]()
        kill_points.others(pictures)
    if name == "gc":
        operations["update"]()
    before = _state(out)
    with recorded(out) as disk:
        operations[name]()
    after = _state(out)
    seen: Counter[str] = Counter()
    moments = sorted({*disk.marks[::every], disk.moment})
    for moment, way in itertools.product(moments, Kept.WAYS):
        left = base / f"left-{moment}-{way}".replace(" ", "-")
        disk.after_cut(moment, Kept(way), left)
        found = _state(left)
        seen["new" if found == after else "old" if found == before else found] += 1
        shutil.rmtree(left)
    return seen


def _state(out: Path) -> str:
    """The digest of the index in a folder, or what is wrong with it."""
    if not (out / "manifest.json").exists():
        return "none"
    try:
        digest = str(Index.open(out).manifest.digest)
        damage = maintenance.find_damage(out)
    except FoirError:
        return "that cannot be opened"
    return "with damaged thumbnails" if damage else digest
