"""Building on a Ray cluster: the same index as one machine makes."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from foir import Index, Unavailable
from foir.index import writer
from index_build import executor, pipeline
from index_build.pipeline import Plan, build
from index_build.shards import PARTIAL
from tests.conftest import draw


def same(ours, theirs):
    """Every row of one index is that of the other."""
    ours, theirs = Index.open(ours), Index.open(theirs)
    assert [(i.id, i.file, i.width, i.height, i.thumb) for i in ours.items()] == [
        (i.id, i.file, i.width, i.height, i.thumb) for i in theirs.items()
    ]
    assert ours.rejected() == theirs.rejected()
    for name, space in theirs.spaces.items():
        for mine, other in zip(ours.space(name).shards, space.shards, strict=True):
            assert np.abs(mine.astype(np.float32) - other.astype(np.float32)).max() <= 1e-3
        for mine, other in zip(ours.space(name).z, space.z, strict=True):
            np.testing.assert_allclose(mine.astype(np.float32), other.astype(np.float32), rtol=1e-2, atol=1e-2)
    assert all((ours.folder / "thumbs" / i.thumb[:2] / f"{i.thumb}.jpg").exists() for i in ours.items())


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 8)
    monkeypatch.setattr(executor, "BATCH_SIZE", 3)


@pytest.fixture
def pictures(tmp_path):
    folder = draw(tmp_path / "pictures", 26)
    for number in (4, 9, 10, 11):
        (folder / f"{number:02}.png").write_bytes(b"no picture")
    return folder


def workers(name):
    """Process ids of the cluster's actors."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and name in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("killed", [False, True], ids=["in peace", "with a worker killed"])
def test_a_cluster_makes_the_same_index(small, pictures, tmp_path, killed):
    pytest.importorskip("ray")
    build(Plan(pictures, tmp_path / "one", "mini", heads=True, device="cpu"))
    gone: list[int] = []

    def kill():
        while not gone and not done.is_set():
            if len(list((tmp_path / "many" / PARTIAL).glob("*.json"))) >= 1:
                for pid in workers("ray::"):
                    named = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"EncoderActor" in named and b"_decode" not in named:  # who encodes does not decode
                        os.kill(pid, signal.SIGKILL)
                        gone.append(pid)
            time.sleep(0.02)

    done = threading.Event()
    killer = threading.Thread(target=kill, daemon=True)
    if killed:
        killer.start()
    built = build(Plan(pictures, tmp_path / "many", "mini", heads=True, device="cpu", ray="local"))
    done.set()
    assert built.image_count == 22 and len(built.rejected) == 4
    assert bool(gone) is killed
    same(tmp_path / "many", tmp_path / "one")


def test_a_cluster_goes_on_behind_the_shards_that_are_there(small, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    build(Plan(pictures, tmp_path / "one", "mini", device="cpu"))
    made = writer.atomic_write

    def stop(path, data, **how):
        made(path, data, **how)
        if path.parent.name == PARTIAL and path.suffix == ".json":
            raise KeyboardInterrupt

    monkeypatch.setattr(writer, "atomic_write", stop)
    with pytest.raises(KeyboardInterrupt):
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu"))
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 8)
    monkeypatch.setattr(executor, "BATCH_SIZE", 3)
    built = build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))
    assert built.resumed == 1
    same(tmp_path / "many", tmp_path / "one")


def test_no_cluster_and_no_ray_are_told_in_a_sentence(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unavailable, match=r"requirements-scale\.txt"):
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))


def _failing(*given, **how):
    raise Unavailable("The weights are not on this worker.")


def test_what_fails_on_a_worker_is_told_in_its_sentence(small, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from index_build import ray_executor

    class Failing(ray_executor.RayExecutor):
        def __init__(self, *args):
            super().__init__(*args)
            self.load = _failing  # by the workers

    monkeypatch.setattr(ray_executor, "RayExecutor", Failing)
    with pytest.raises(Unavailable, match="not on this worker") as caught:
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))
    assert "\n" not in str(caught.value)
