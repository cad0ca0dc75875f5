"""Kills every way of writing an index before each of its file operations, and looks at what is left.

`python -m tests.kill_points FOLDER` prints, as JSON, how many moments of each operation were tried. A stand-in encoder
takes the place of a model and nothing imports torch, so that a child costs a fork. Each child is killed with SIGKILL
before its n-th change to the file system; where that is the opening of a file for writing, once more with a few bytes
in it, as a kill in the middle of writing would leave it.
"""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from foir.errors import BadIndex, Unavailable
from foir.index import Index
from index_build import maintenance, pipeline, update
from index_build.encoding import EncodedBatch, EncoderRecord
from index_build.shards import PARTIAL

WRITING = os.O_WRONLY | os.O_RDWR


class StandIn:
    """Encodes an image as 16 colours."""

    records = {"image": EncoderRecord("stand-in", "1", tuple(np.eye(48)[0].tolist()))}

    def preprocess(self, image, objects=()):
        return np.asarray(image.resize((4, 4)), np.float32).reshape(48) + 1

    def encode(self, inputs):
        rows = np.stack(inputs)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return EncodedBatch({"image": rows}, rows[:, :8].reshape(-1, 2, 4), rows[:, 8:16])


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((32, 24), Image.Resampling.NEAREST).save(path)
    os.utime(path, (seed + 1, seed + 1))  # the same stamps in every run


def pictures(folder: Path) -> None:
    for seed in range(10):
        picture(folder / f"{seed:02}.png", seed)
    (folder / "99-broken.png").write_bytes(b"junk")


def others(folder: Path) -> None:
    """Change the folder: two pictures more, one gone, one another."""
    picture(folder / "03-new.png", 20)
    picture(folder / "new" / "01.png", 21)
    picture(folder / "05.png", 22)
    (folder / "07.png").unlink()


def operations(folder: Path, out: Path) -> dict[str, Callable[[], object]]:
    encoders = StandIn()
    plan = pipeline.Plan(folder, out, "stand-in", heads=True)
    return {
        "build": lambda: pipeline.build(plan, encoders).resumed,
        "rebuild": lambda: pipeline.build(plan, encoders).resumed,
        "update": lambda: update.update(out, encoders=encoders).added,
        "add": lambda: update.add(out, [folder / "new"], encoders=encoders).added,
        "remove": lambda: update.remove(out, ["02.png", "09.png"]).removed,
        "gc": lambda: maintenance.gc(out),
    }


def child(work: Callable[[], object], before: Callable[[], None], told: Path) -> int:
    """Run in a fork: what it returned lies in `told`; the status is -9 where it was killed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        before()
        told.write_text(json.dumps(work()))
        os._exit(0)
    except Unavailable as error:  # what was removed cannot be removed again
        told.write_text(json.dumps(str(error)))
        os._exit(3)
    except BaseException:
        import traceback

        told.write_text(json.dumps(traceback.format_exc()))
        os._exit(1)


def killer(out: Path, number: int, torn: bool) -> Callable[[], None]:
    """Kill this process before its `number`-th change under `out`, or when that file is half written, if torn."""
    seen, dying, lock = [0], [False], threading.Lock()

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            changes = isinstance(args[2], int) and bool(args[2] & WRITING)
        else:
            changes = not torn and event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
        ours = changes and (os.fspath(args[0]).startswith(str(out)) or args[-1] not in (-1, None) and event != "open")
        if dying[0] or not ours:  # shutil.rmtree names what it removes from inside the folder
            return
        with lock:
            seen[0] += 1
            if seen[0] == number:
                dying[0] = True
                if torn:
                    Path(args[0]).write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def tree(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def state(out: Path) -> str | None:
    """Digest of the index that a reader sees, every byte of it checked; None where there is none yet."""
    try:
        digest = Index.open(out).manifest["digest"]
    except BadIndex as error:
        if (out / "manifest.json").exists():
            raise AssertionError(f"a mixture: {error}") from error
        return None
    damage = maintenance.find_damage(out)
    assert not damage, damage
    return str(digest)


def tried(name: str, base: Path, old: Path | None) -> int:
    """Kill one operation at every moment; returns how many there were."""
    out, told = base / "index", base / "told"

    def reset() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if old is not None:
            shutil.copytree(old, out)

    work = operations(base / "pictures", out)[name]
    reset()
    before = None if old is None else state(out)
    assert child(work, lambda: None, told) == 0, told.read_text()
    after = state(out)
    assert child(lambda: maintenance.gc(out), lambda: None, told) == 0, told.read_text()
    whole = tree(out)
    moments = 0
    for torn in (False, True):
        for number in count(1):
            reset()
            status = child(work, killer(out, number, torn), told)
            if status == 0:
                break
            assert status == -signal.SIGKILL, told.read_text()
            moments += 1
            now = state(out)
            assert now in {before, after}, (name, number)
            finished = len(list((out / PARTIAL).glob("*.json")))
            again = child(work, lambda: None, told)
            assert again == 0 or (name == "remove" and now == after), told.read_text()
            if name in {"build", "rebuild"} and now == before:
                assert json.loads(told.read_text()) == finished, "a finished shard was made again"
            assert state(out) == after
            assert child(lambda: maintenance.gc(out), lambda: None, told) == 0, told.read_text()
            assert tree(out) == whole, (name, number)
    return moments


def main(folder: Path) -> None:
    pipeline.SHARD_SIZE = 4
    os.fsync = lambda descriptor: None  # what a killed process wrote is not lost; see tests/reliability/power_cut.py
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    base, old = folder / "work", folder / "old"
    pictures(base / "pictures")
    moments = {"build": tried("build", base, None)}
    shutil.copytree(base / "index", old)
    others(base / "pictures")
    for name in ("rebuild", "update", "add", "remove"):
        moments[name] = tried(name, base, old)
    shutil.rmtree(base / "index")
    shutil.copytree(old, base / "index")
    update.update(base / "index", encoders=StandIn())  # something for gc to remove
    shutil.rmtree(old)
    shutil.copytree(base / "index", old)
    moments["gc"] = tried("gc", base, old)
    sys.stdout.write(json.dumps({"moments": moments, "torch": "torch" in sys.modules}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
