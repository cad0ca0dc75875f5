"""Building on a Ray cluster, and from shared storage: the same index as one machine makes of a folder."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foir import Index, Unavailable
from foir.index import writer
from index_build import pipeline, shards
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.shards import PARTIAL
from index_build.sources.fsspec_source import stored
from tests.conftest import draw, scene


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
    monkeypatch.setattr(pipeline, "SHARD", 8)
    monkeypatch.setattr(shards, "BATCH", 3)


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
                    if b"Seeing" in named and b"_decode" not in named:  # who encodes does not decode
                        os.kill(pid, signal.SIGKILL)
                        gone.append(pid)
            time.sleep(0.02)

    done = threading.Event()
    killer = threading.Thread(target=kill, daemon=True)
    if killed:
        killer.start()
    built = build(Plan(pictures, tmp_path / "many", "mini", heads=True, device="cpu", ray="local"))
    done.set()
    assert built.pictures == 22 and len(built.rejected) == 4
    assert bool(gone) is killed
    same(tmp_path / "many", tmp_path / "one")


def test_a_cluster_goes_on_behind_the_shards_that_are_there(small, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    build(Plan(pictures, tmp_path / "one", "mini", device="cpu"))
    made = writer.atomic_write

    def stop(path, data, **how):
        made(path, data, **how)
        if path.parent.name == PARTIAL:
            raise KeyboardInterrupt

    monkeypatch.setattr(writer, "atomic_write", stop)
    with pytest.raises(KeyboardInterrupt):
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu"))
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "SHARD", 8)
    monkeypatch.setattr(shards, "BATCH", 3)
    built = build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))
    assert built.resumed == 1
    same(tmp_path / "many", tmp_path / "one")


def test_no_cluster_and_no_ray_are_told_in_a_sentence(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unavailable, match=r"requirements-scale\.txt"):
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))


def test_an_index_is_the_same_whoever_gets_the_batches(small, pictures, tmp_path, monkeypatch):
    """Pictures that cannot be read keep their place in a batch, so it does not depend on them."""
    seen = []
    own = shards.batch_of

    def counted(some, made):
        seen.append(len(some))
        return own(some, made)

    monkeypatch.setattr(shards, "batch_of", counted)
    build(Plan(pictures, tmp_path / "index", "toy", device="cpu"))
    assert seen == [3, 3, 2, 3, 3, 2, 3, 3, 2, 2]


def test_a_pattern_of_files_makes_the_index_of_their_folder(pictures, tmp_path, capsys):
    build(Plan(pictures, tmp_path / "one", "toy", device="cpu"))
    assert main(["build", f"file://{pictures}/**/*.png", "--out", str(tmp_path / "two"), "--encoder", "toy"]) == 0
    ours, theirs = Index.open(tmp_path / "two"), Index.open(tmp_path / "one")
    assert [(i.id, i.file, i.thumb) for i in ours.items()] == [(i.id, i.file, i.thumb) for i in theirs.items()]
    assert [np.array_equal(a, b) for a, b in zip(ours.space().shards, theirs.space().shards, strict=True)] == [True]
    assert len(ours.rejected()) == 4 and ours.manifest["root"] is None


def test_another_file_system_is_read_too(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(3):
        path = tmp_path / f"{number}.png"
        scene(number).save(path)
        memory.pipe(f"/photos/deep/{number}.png", path.read_bytes())
    memory.pipe("/photos/notes.txt", b"none")
    build(Plan(stored("memory://photos/**/*"), tmp_path / "index", "toy", device="cpu"))
    assert [item.file for item in Index.open(tmp_path / "index").items()] == [f"deep/{n}.png" for n in range(3)]


@pytest.mark.parametrize("form", ["bytes", "image"])
def test_tables_with_pictures_make_an_index(tmp_path, form, capsys):
    files = sorted(draw(tmp_path / "pictures", 7).iterdir())
    data = [path.read_bytes() for path in files]
    data[2] = b"no picture"
    held = (
        data
        if form == "bytes"
        else [{"bytes": each, "path": path.name} for each, path in zip(data, files, strict=True)]
    )
    table = pa.table({"image": held, "caption": [f"number {n}" for n in range(7)], "other": list(range(7))})
    pq.write_table(table.slice(0, 5), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(table.slice(5), tmp_path / "b.parquet")
    assert main(["build", str(tmp_path / "*.parquet"), "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 0
    items = Index.open(tmp_path / "index").items()
    assert [item.id for item in items] == [0, 1, 3, 4, 5, 6]
    assert [item.caption for item in items] == [f"number {n}" for n in (0, 1, 3, 4, 5, 6)]
    assert items[0].file == ("a-0" if form == "bytes" else "00.png")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere://bucket/*.jpg", "cannot be read"),
        ("/nowhere/*.jpg", "names no pictures"),
        ("/nowhere/*.parquet", "names no tables"),
        ("{folder}/plain.parquet", "no column of pictures"),
        ("{folder}/broken.parquet", "cannot be read"),
    ],
)
def test_what_is_no_source_gets_one_sentence(tmp_path, source, words, capsys):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "plain.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    asked = source.format(folder=tmp_path)
    assert main(["build", asked, "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 1
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told


def _failing(*given, **how):
    raise Unavailable("The weights are not on this worker.")


def test_what_fails_on_a_worker_is_told_in_its_sentence(small, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from index_build import ray_executor

    own = ray_executor.hands
    monkeypatch.setattr(
        ray_executor, "hands", lambda address, frames, eyes, *rest: own(address, frames, _failing, *rest)
    )
    with pytest.raises(Unavailable, match="not on this worker") as caught:
        build(Plan(pictures, tmp_path / "many", "mini", device="cpu", ray="local"))
    assert "\n" not in str(caught.value)


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path):
    folder = draw(tmp_path / "[2020] *.parquet", 2)
    assert main(["build", str(folder), "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 0
    assert len(Index.open(tmp_path / "index")) == 2


def test_storage_that_does_not_answer_leaves_nothing_out(tmp_path, monkeypatch):
    source = stored(f"{draw(tmp_path / 'pictures', 3)}/*.png")

    def broken(*given, **how):
        raise PermissionError("no access")

    monkeypatch.setattr("fsspec.open", broken)
    with pytest.raises(Unavailable, match="no access"):
        build(Plan(source, tmp_path / "index", "toy", device="cpu"))
