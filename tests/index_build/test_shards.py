"""Builds that are interrupted, and resumed with the same bytes."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foir import BadIndex, Index, Unavailable
from index_build.shards import PARTIAL
from index_build.sources import Metadata
from tests.conftest import scene
from tests.index_build.conftest import BROKEN, ROOT, check_alignment, count_reads, flip, interrupt, make, thing, tree


def test_an_interrupted_build_is_taken_up_and_ends_in_the_same_bytes(folder, unbroken, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    assert len(list((out / PARTIAL).glob("*.json"))) == 2
    assert not (out / "manifest.json").exists()
    seen = count_reads(monkeypatch)
    built = make(folder, out, heads=True)
    assert (built.image_count, built.resumed) == (10, 2)
    assert seen == {"06.png": 1, "08.png": 1}
    assert tree(out) == tree(unbroken)
    assert not (out / PARTIAL).exists()


def test_rejected_files_of_resumed_shards_are_still_listed(mixed, four_a_shard, monkeypatch):
    out = mixed.parent / "index"
    interrupt(mixed, out, monkeypatch)
    built = make(mixed, out, heads=True)
    assert built.resumed == 3
    assert [entry["file"] for entry in built.rejected] == list(BROKEN)


def test_a_shard_of_nothing_but_damaged_files_is_resumed(folder, four_a_shard, monkeypatch):
    for i in range(4):
        (folder / f"0{i}.png").write_bytes(b"junk")
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    built = make(folder, out, heads=True)
    assert (built.image_count, built.resumed, len(built.rejected)) == (10, 3, 4)
    assert Index.open(out).item(0).id == 4


def test_a_finished_index_is_built_from_scratch_when_asked_again(folder, unbroken, monkeypatch):
    before = tree(unbroken)
    seen = count_reads(monkeypatch)
    assert make(folder, unbroken, heads=True).resumed == 0
    assert len(seen) == 10 and max(seen.values()) == 2  # some for the mean of the regions too
    assert tree(unbroken) == before


CHILD = """
import sys, time
from pathlib import Path

sys.path.insert(0, {root!r})
import tests.conftest
from foir import decoders
from index_build import executor, pipeline

real = decoders.read


def read(path, **limits):
    while list(Path({out!r}, ".partial").glob("*.json")):
        time.sleep(1)
    return real(path, **limits)


decoders.read = read
pipeline.SHARD_SIZE = 4
pipeline.build(pipeline.Plan(Path({folder!r}), Path({out!r}), "toy", heads=True, device="cpu"))
"""


def test_a_build_killed_with_kill_9_is_taken_up_and_ends_in_the_same_bytes(folder, unbroken):
    out = folder.parent / "index"
    script = folder.parent / "child.py"
    script.write_text(CHILD.format(root=str(ROOT), folder=str(folder), out=str(out)))
    with (folder.parent / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, script], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 50
            while not list((out / PARTIAL).glob("*.json")):
                assert child.poll() is None, (folder.parent / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with pytest.raises(Unavailable, match="Another build"):
                make(folder, out, heads=True)
        finally:
            child.kill()
            child.wait()
    with pytest.raises(BadIndex, match="no index"):
        Index.open(out)
    assert make(folder, out, heads=True).resumed == 1
    assert tree(out) == tree(unbroken)


@pytest.mark.parametrize("what", ["vectors", "heads"])
@pytest.mark.parametrize("how", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_recorded_shard_whose_file_is_damaged_is_made_again(folder, unbroken, what, how, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    record = json.loads(sorted((out / PARTIAL).glob("*.json"))[0].read_text())
    how(out / (record["vectors"]["image"] if what == "vectors" else record["heads"]))
    assert make(folder, out, heads=True).resumed == 1
    assert tree(out) == tree(unbroken)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"vectors": 1}'])
def test_a_damaged_record_is_not_believed(folder, unbroken, text, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    sorted((out / PARTIAL).glob("*.json"))[0].write_text(text)
    assert make(folder, out, heads=True).resumed == 1
    assert tree(out) == tree(unbroken)


@pytest.mark.parametrize("how", [flip, Path.unlink])
def test_a_thumbnail_damaged_between_two_runs_is_made_again(folder, unbroken, how, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    how(sorted(out.glob("thumbs/*/*.jpg"))[0])
    make(folder, out, heads=True)
    assert tree(out) == tree(unbroken)


def test_a_picture_changed_between_two_runs_is_encoded_again(folder, four_a_shard, toy, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    scene(77, (200, 100)).save(folder / "a" / "03.png")
    assert make(folder, out, heads=True).resumed == 1
    index = Index.open(out)
    assert (index.item(1).file, index.item(1).width, index.item(1).height) == ("a/03.png", 200, 100)
    check_alignment(index, folder, toy)


def test_a_picture_added_between_two_runs_shifts_ids_and_nothing_else(folder, four_a_shard, toy, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    scene(78).save(folder / "a" / "08.png")
    assert make(folder, out, heads=True).resumed == 1
    index = Index.open(out)
    assert [index.item(row).id for row in range(11)] == list(range(11))
    assert index.item(4).file == "a/08.png"
    check_alignment(index, folder, toy)


def test_a_whole_shard_of_pictures_added_in_front_leaves_no_old_ids(folder, four_a_shard, toy, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    for i in range(4):
        scene(60 + i).save(folder / f"{i:02}-new.png")
    assert make(folder, out, heads=True).resumed == 0
    index = Index.open(out)
    assert [index.item(row).id for row in range(14)] == list(range(14))
    check_alignment(index, folder, toy)


def test_shards_made_by_another_plan_are_not_taken_over(folder, unbroken, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch, heads=False)
    assert make(folder, out, heads=True).resumed == 0
    assert [len(z) for z in Index.open(out).space().z] == [4, 4, 2]


def test_a_failed_build_leaves_the_folder_unlocked(folder, four_a_shard, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    held = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(held)


def test_a_shard_whose_notes_are_others_in_the_second_run_is_made_again(folder, four_a_shard, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    assert make(folder, out, heads=True, metadata={"a/01.png": Metadata("late", objects=(thing("late"),))}).resumed == 1
    index = Index.open(out)
    assert index.item(0).caption == "late"
    assert [thing.name for thing in index.objects(0)] == ["late"]
