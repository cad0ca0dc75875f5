"""Kills every way of writing an index before each of its file operations, and looks at what is left.

`python -m tests.kill_points FOLDER [TIMES]` prints, as JSON, how many moments of each operation were tried: before each
change and request, and at so many random times. A stand-in encoder
takes the place of a model and nothing imports torch, so that a child costs a fork. Each child is killed with SIGKILL
before its n-th change to the file system; where that is the opening of a file for writing, once more with a few bytes
in it, as a kill in the middle of writing would leave it.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count, takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from foir import decoders, images
from foir.errors import BadIndex, Unavailable
from foir.index import Index, local_record, remote
from foir.index.manifest import read_manifest
from index_build import maintenance, pipeline, publish, update
from index_build.encoding import EncodedBatch, EncoderRecord
from index_build.shards import PARTIAL
from tests import standin_hub

REPO = "tester/index"
WRITING = os.O_WRONLY | os.O_RDWR


class StandIn:
    """Encodes an image as 16 colours, and one or two regions by rows that no other image has."""

    records = {"image": EncoderRecord("stand-in", "1", tuple(np.eye(48)[0].tolist()))}
    region_recipe = "rows"
    min_side = 0

    def preprocess(self, image, objects=()):
        return np.asarray(image.resize((4, 4)), np.float32).reshape(48) + 1

    def encode(self, inputs):
        rows = np.stack(inputs)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        regions = [regions_of(row) for row in rows]
        return EncodedBatch({"image": rows}, rows[:, :8].reshape(-1, 2, 4), rows[:, 8:16], regions)


def regions_of(row):
    """One region that is the picture's vector itself; with a bright first colour, another that is its reverse."""
    count = 1 + int(row[0] > row[1])
    vectors = np.stack([row, row[::-1]])[:count]
    return SimpleNamespace(vectors=vectors, boxes=(vectors[:, :4] * [0, 0, 65_535, 65_535]).astype(np.uint16))


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
        if event == "socket.connect":
            changes = not torn
        elif event == "open":
            changes = isinstance(args[2], int) and bool(args[2] & WRITING)
        else:
            changes = not torn and event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
        ours = changes and (
            event == "socket.connect"
            or str(args[0]).startswith(str(out))
            or args[-1] not in (-1, None)
            and event != "open"
        )
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
        index = Index.open(out)
    except BadIndex as error:
        if (out / "manifest.json").exists():
            raise AssertionError(f"a mixture: {error}") from error
        return None
    damage = maintenance.find_damage(out)
    assert not damage, damage
    vectors = np.concatenate(index.space().shards)
    assert index.regions is not None and len(index.regions.vectors) == len(index.space().shards)
    for row, vector in enumerate(vectors):
        assert np.array_equal(index.regions.of_row(row)[0][0], vector), f"regions of another picture in row {row}"
    return str(index.manifest.digest)


def _own(out: Path) -> None:
    """The state that lies there again is this machine's."""
    local_record.commit(out, read_manifest(out), out.parent / "pictures")


class Trial:
    """One operation, killed again and again from the same start."""

    def __init__(
        self,
        name: str,
        base: Path,
        old: Path | None,
        work: Callable[[], object] | None = None,
        caches: Sequence[Path] = (),
    ) -> None:
        self.name, self.out, self.old, self.caches, self.told = name, base / "index", old, caches, base / "told"
        self.work = work or operations(base / "pictures", self.out)[name]
        self.reset()
        self.before = None if old is None else state(self.out)
        started = time.monotonic()
        assert child(self.work, lambda: None, self.told) == 0, self.told.read_text()
        self.seconds = time.monotonic() - started
        self.after = state(self.out)
        self.clean()
        self.whole = tree(self.out)

    def reset(self) -> None:
        for folder in (self.out, *self.caches):
            shutil.rmtree(folder, ignore_errors=True)
        if self.old is not None:
            shutil.copytree(self.old, self.out)
            if not self.caches:
                _own(self.out)

    def clean(self) -> None:
        assert child(lambda: maintenance.gc(self.out), lambda: None, self.told) == 0, self.told.read_text()

    def killed(self, before: Callable[[], None], where: object) -> bool:
        """Run it until it is killed, look at what is left and run it again; whether it was killed."""
        self.reset()
        status = child(self.work, before, self.told)
        if status == 0:
            return False
        assert status == -signal.SIGKILL, self.told.read_text()
        now = state(self.out)
        assert now in {self.before, self.after}, (self.name, where)
        finished = len(list((self.out / PARTIAL).glob("*.json")))
        again = child(self.work, lambda: None, self.told)
        assert again == 0 or (self.name == "remove" and now == self.after), self.told.read_text()
        if self.name in {"build", "rebuild"} and now == self.before:
            assert json.loads(self.told.read_text()) == finished, "a finished shard was made again"
        assert state(self.out) == self.after
        self.clean()
        assert tree(self.out) == self.whole, (self.name, where)
        return True

    def at_changes(self, every: int) -> int:
        """Kill it at every so many of its moments; returns how many there were."""
        moments = 0
        for torn in (False, True):
            for number in count(1, every):
                if not self.killed(killer(self.out, number, torn), number):
                    break
                moments += 1
        return moments

    def at_random(self, times: int) -> int:
        """Kill it so many times while it runs, whatever it does then; returns how often it was still running."""
        random = np.random.default_rng(7)
        return sum(self.killed(clock(self.seconds * random.random()), "at random") for _ in range(times))


def clock(seconds: float) -> Callable[[], None]:
    """Kill this process after so long."""

    def start() -> None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    return start


def main(folder: Path, at_random: int = 0, every: int = 1) -> dict[str, list[int]]:
    """The number of moments of each operation (of every so many), and of random times, at which it was killed."""
    pipeline.SHARD_SIZE = 4
    decoders.read = lambda source, **limits: images.read(source)  # each child would start decoders of its own
    os.fsync = lambda fd: None  # what a killed process wrote is not lost; see tests/reliability/power_cut.py
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    base, old = folder / "work", folder / "old"
    pictures(base / "pictures")

    def tried(name: str, start: Path | None, **more: Any) -> list[int]:
        trial = Trial(name, base, start, **more)
        return [trial.at_changes(every), trial.at_random(at_random)]

    moments = {"build": tried("build", None)}
    shutil.copytree(base / "index", old)
    others(base / "pictures")
    for name in ("rebuild", "update", "add", "remove"):
        moments[name] = tried(name, old)
    shutil.rmtree(base / "index")
    shutil.copytree(old, base / "index")
    _own(base / "index")
    update.update(base / "index", encoders=StandIn())  # something for gc to remove
    shutil.copytree(base / "index", new := folder / "new")
    moments["gc"] = tried("gc", new)
    with standin_hub.in_place_of_the_hub(folder / "hub") as hub:
        publish.publish(old, REPO)
        pull = {"work": lambda: remote.pull(REPO, base / "index"), "caches": [folder / "hub"]}
        moments["pull"] = tried("pull", None, **pull)
        shutil.copytree(base / "index", pulled := folder / "pulled")
        moments["publish"] = published(new, hub, folder / "told", at_random, every)
        moments["pull of a change"] = tried("pull", pulled, **pull)
    return moments


def published(out: Path, hub: standin_hub.Hub, told: Path, at_random: int, every: int) -> list[int]:
    """Kill the publishing of a newer state before each of its requests: the repository stays a whole index."""
    start, local = {name: dict(commits) for name, commits in hub.repos.items()}, state(out)
    commits = hub.repos[REPO]

    def reset() -> None:
        commits.clear()
        commits.update(start[REPO])
        hub.stored.clear()

    def remote_state() -> str:
        files = hub.files(REPO)
        manifest = json.loads(files["manifest.json"])
        for name, facts in manifest["files"].items():
            assert hashlib.sha256(files[name]).hexdigest() == facts["sha256"], f"a mixture: {name}"
        return str(manifest["digest"])

    def work() -> object:
        return publish.publish(out, REPO)

    before, started = remote_state(), time.monotonic()
    assert child(work, lambda: None, told) == 0, told.read_text()
    seconds, after, random = time.monotonic() - started, remote_state(), np.random.default_rng(7)

    def killed(begin: Callable[[], None]) -> bool:
        reset()
        status = child(work, begin, told)
        if status == 0:
            return False
        assert status == -signal.SIGKILL, told.read_text()
        assert remote_state() in {before, after} and state(out) == local
        assert child(work, lambda: None, told) == 0, told.read_text()
        assert remote_state() == after
        return True

    moments = sum(1 for _ in takewhile(lambda number: killed(killer(out, number, False)), count(1, every)))
    return [moments, sum(killed(clock(seconds * random.random())) for _ in range(at_random))]


if __name__ == "__main__":
    told = main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    sys.stdout.write(json.dumps({"moments": told, "torch": "torch" in sys.modules}))
