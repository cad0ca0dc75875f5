"""Disks that are full or closed, and folders that change while they are read: real ones, mounted for the purpose."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foir import Index, decoders
from index_build import update
from index_build.changes import UpdateResult
from index_build.pipeline import Plan, build
from index_build.sources import folder as sources_folder
from tests.conftest import draw, scene
from tests.kill_points import StandIn, picture

ROOT = Path(__file__).parents[3]

WORK = """
import sys
from pathlib import Path
from foir.errors import FoirError
from index_build import maintenance, pipeline, update
from tests.kill_points import StandIn
folder, out, what = map(Path, sys.argv[1:4])
try:
    if str(what) == "build":
        print(pipeline.build(pipeline.Plan(folder, out, "stand-in", heads=True), StandIn()).resumed)
    elif str(what) == "update":
        print(update.update(out, root=folder, encoders=StandIn()).added)
    else:
        print(maintenance.gc(out))
except FoirError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def disk(tmp_path):
    """Runs work on a new file system of its own: `disk(how to mount it, commands)`; what is printed comes back."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    (tmp_path / "disk").mkdir()
    (tmp_path / "work.py").write_text(WORK)

    def run(commands):
        work = f"PYTHONPATH={ROOT} TQDM_DISABLE=1 {sys.executable} {tmp_path}/work.py {tmp_path}/pictures"
        script = "\n".join(["set -e", f"cd {tmp_path}", *(line.replace("WORK", work) for line in commands)])
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
        if "mount" in done.stderr and "permission" in done.stderr.lower():
            pytest.skip("this system lets nobody mount a file system of their own")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def fill(folder, count):
    for seed in range(count):
        picture(folder / f"{seed:03}.png", seed)


def test_a_disk_that_is_full_during_a_build_and_large_enough_afterwards(disk, tmp_path):
    fill(tmp_path / "pictures", 60)
    first, second = disk(
        [
            "mount -t tmpfs -o size=120k none disk",
            "WORK disk/index build",
            "test ! -e disk/index/manifest.json",
            "test -z \"$(find disk -name '*.part')\"",
            "mount -o remount,size=4m disk",
            "WORK disk/index build",
            "cp -r disk/index kept",
        ]
    )
    assert first.startswith("Unavailable The index disk/index cannot be written, since the disk is full: ")
    assert int(second) >= 0
    build(Plan(tmp_path / "pictures", tmp_path / "whole", "stand-in", heads=True), StandIn())
    kept, whole = Index.open(tmp_path / "kept"), Index.open(tmp_path / "whole")
    assert np.array_equal(np.concatenate(kept.space().shards), np.concatenate(whole.space().shards))


def test_a_disk_that_is_full_during_an_update_keeps_the_old_index(disk, tmp_path):
    fill(tmp_path / "pictures", 10)
    build(Plan(tmp_path / "pictures", tmp_path / "index", "stand-in", heads=True), StandIn())
    manifest = Index.open(tmp_path / "index").manifest
    fill(tmp_path / "pictures", 80)
    (said,) = disk(
        [
            "mount -t tmpfs -o size=160k none disk",
            "cp -r index disk/index",
            "mkdir disk/pictures && mount --bind pictures disk/pictures",
            "WORK disk/index update",
            "cp -r disk/index kept",
        ]
    )
    assert "the disk is full" in said
    assert Index.open(tmp_path / "kept").manifest == manifest


@pytest.mark.parametrize("what", ["build", "update", "gc"])
def test_a_disk_that_may_only_be_read(disk, tmp_path, what):
    fill(tmp_path / "pictures", 10)
    build(Plan(tmp_path / "pictures", tmp_path / "index", "stand-in", heads=True), StandIn())
    manifest = Index.open(tmp_path / "index").manifest
    fill(tmp_path / "pictures", 12)
    (tmp_path / "index" / f"{0:032x}-heads.safetensors").write_bytes(b"something for gc to remove")
    (said,) = disk(["mount --bind index disk", "mount -o remount,ro,bind disk", f"WORK disk {what}"])
    assert said.startswith("Unavailable The index disk cannot be written, since the file system is read-only: ")
    assert Index.open(tmp_path / "index").manifest == manifest


# Folders that change.


def test_files_removed_and_replaced_between_listing_and_reading(tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 6)
    real = sources_folder.list_images

    def listing(path, out):
        found = real(path, out)
        (folder / "02.png").unlink()
        scene(50).save(folder / "03.png")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sources_folder, "list_images", listing)
        built = build(Plan(folder, tmp_path / "index", "stand-in"), StandIn())
    assert [entry["file"] for entry in built.rejected] == ["02.png"]
    rows = dict(zip([item.file for item in Index.open(tmp_path / "index").items()], rows_of(tmp_path), strict=True))
    assert set(rows) == {"00.png", "01.png", "03.png", "04.png", "05.png"}
    assert float(rows["03.png"] @ seen(scene(50))) > 0.999 > float(rows["03.png"] @ seen(scene(3)))
    assert update.update(tmp_path / "index", encoders=StandIn()) == UpdateResult()


def test_a_file_replaced_while_it_is_read_is_encoded_again_by_the_next_update(tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 3)
    real = decoders.read

    def read(path, **limits):
        photo = real(path, **limits)
        if path.name == "01.png":
            scene(60).save(path)
        return photo

    with monkeypatch.context() as patch:
        patch.setattr(decoders, "read", read)
        build(Plan(folder, tmp_path / "index", "stand-in"), StandIn())
    assert float(rows_of(tmp_path)[1] @ seen(scene(1))) > 0.999
    assert update.update(tmp_path / "index", encoders=StandIn()).reencoded == ("01.png",)
    rows = dict(zip([item.file for item in Index.open(tmp_path / "index").items()], rows_of(tmp_path), strict=True))
    assert float(rows["01.png"] @ seen(scene(60))) > 0.999


def test_a_folder_removed_while_it_is_listed(tmp_path, monkeypatch):
    folder = draw(tmp_path / "pictures", 2)
    draw(folder / "later", 2)
    real = os.walk

    def walk(top, **how):
        steps = real(top, **how)
        yield next(steps)
        shutil.rmtree(folder / "later")
        yield from steps

    with monkeypatch.context() as patch:
        patch.setattr(os, "walk", walk)
        built = build(Plan(folder, tmp_path / "index", "stand-in"), StandIn())
    assert (built.image_count, built.rejected) == (2, ())


def seen(image):
    return StandIn().encode([StandIn().preprocess(image)]).vectors["image"][0]


def rows_of(base):
    return np.concatenate(Index.open(base / "index").space().shards).astype(np.float32)
