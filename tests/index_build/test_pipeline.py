"""Building indexes: what is left out, what ids mean, exit statuses, and builds that are killed and taken up again."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foir import BadIndex, Index, Searcher, Unavailable, images
from foir.index import Object, writer
from foir.search.query import Query
from index_build import executor, pipeline
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.shards import PARTIAL
from index_build.sources import Metadata
from tests.conftest import scene

ROOT = Path(__file__).parents[2]


def tree(folder):
    """Every file under a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(folder, out, **how):
    return build(Plan(folder, out, "toy", device="cpu", **how))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def check_alignment(index, folder, toy):
    """Every row's vector is that of the row's file, and no other row's is as close."""
    stored = np.concatenate(index.space().shards).astype(np.float32)
    for row in range(len(index)):
        image = images.read(folder / index.item(row).file).image
        near = stored @ toy.finish(toy.prefix(toy.pixels([image]))).vectors[0].numpy()
        assert near[row] > 0.999
        assert np.delete(near, row).max() < 0.99


@pytest.fixture
def four_a_shard(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 4)


@pytest.fixture
def unbroken(folder, four_a_shard):
    """The finished index, with heads, of a build that nothing disturbed: three shards of 4, 4 and 2 pictures."""
    out = folder.parent / "unbroken"
    make(folder, out, heads=True)
    return out


def interrupt(folder, out, monkeypatch, at="b/08.png", **how):
    """A build with a head cache that is stopped by Ctrl-C when it comes to a file."""
    how = {"heads": True} | how
    real = images.read

    def read(path):
        if path == folder / at:
            raise KeyboardInterrupt
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", read)
        with pytest.raises(KeyboardInterrupt):
            make(folder, out, **how)


def count_reads(monkeypatch):
    seen: Counter[str] = Counter()
    real = images.read
    monkeypatch.setattr(images, "read", lambda path: seen.update([path.name]) or real(path))
    return seen


# What goes in.


@pytest.fixture
def mixed(folder):
    """The ten good pictures with damaged ones among them, before, between and behind."""
    good = (folder / "a" / "01.png").read_bytes()
    (folder / "0-empty.jpg").write_bytes(b"")
    (folder / "a" / "04-cut.png").write_bytes(good[: len(good) // 2])
    (folder / "a" / "06-words.jpeg").write_text("not a picture")
    (folder / "b" / "03-zeroed.PNG").write_bytes(good[:12] + bytes(40) + good[52:])
    (folder / "z-gone.webp").symlink_to(folder / "nowhere.webp")
    os.mkfifo(folder / "z-pipe.gif")
    return folder


BROKEN = {
    "0-empty.jpg": "is empty",
    "a/04-cut.png": "damaged or incomplete",
    "a/06-words.jpeg": "not a picture",
    "b/03-zeroed.PNG": "not a picture",
    "z-gone.webp": "not a file",
    "z-pipe.gif": "not a file",
}


@pytest.mark.parametrize("shard", [4, 1024])
def test_damaged_files_are_listed_with_reasons_and_skipped(mixed, shard, monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", shard)
    out = mixed.parent / "index"
    built = make(mixed, out)
    assert built.image_count == len(Index.open(out)) == 10
    assert [entry["file"] for entry in built.rejected] == list(BROKEN)
    for entry in built.rejected:
        assert BROKEN[entry["file"]] in entry["reason"] and Path(entry["file"]).name in entry["reason"]
    lines = (out / Index.open(out).manifest["rejected"]).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(built.rejected)


@pytest.mark.parametrize("shard", [1, 4, 1024])
def test_ids_are_places_in_the_listing_and_every_vector_belongs_to_its_file(mixed, toy, shard, monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", shard)
    monkeypatch.setattr(executor, "BATCH_SIZE", 3)
    out = mixed.parent / "index"
    make(mixed, out, heads=True)
    index = Index.open(out)
    listed = sorted(path.relative_to(mixed).as_posix() for path in mixed.rglob("*") if path.suffix)
    items = [index.item(row) for row in range(len(index))]
    assert len(listed) == 16
    assert [(item.id, item.file) for item in items] == [
        (id, file) for id, file in enumerate(listed) if file not in BROKEN
    ]
    check_alignment(index, mixed, toy)
    z, residual = (np.concatenate(part).astype(np.float32) for part in (index.space().z, index.space().residual))
    for row, item in enumerate(items):
        features = toy.finish(toy.prefix(toy.pixels([images.read(mixed / item.file).image])))
        assert np.allclose(z[row], features.z[0].numpy(), rtol=1e-2, atol=1e-2)
        assert np.allclose(residual[row], features.residual[0].numpy(), rtol=1e-2, atol=1e-2)


def test_hidden_files_hidden_folders_and_other_suffixes_are_skipped_in_silence(folder):
    for name in (".hidden.png", ".cache/seen.png", "a/.trash/old.png", "a/._01.png"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        scene(30).save(path)
    (folder / "notes.txt").write_text("not meant to be a picture")
    built = make(folder, folder.parent / "index")
    assert (built.image_count, built.rejected) == (10, ())


def test_an_index_inside_the_folder_is_not_indexed(folder):
    out = folder / "a" / "index"
    for _ in range(2):
        assert make(folder, out).image_count == 10
    assert {Path(Index.open(out).item(row).file).parent.name for row in range(10)} == {"a", "b"}


def test_thumbnails_are_not_indexed_where_the_folder_is_its_own_index(folder):
    for _ in range(2):
        try:
            assert make(folder, folder).image_count == 10
        except Unavailable:  # to refuse is as good
            assert not (folder / "thumbs").exists()


def test_a_file_whose_name_is_not_utf8_does_not_cost_the_others(folder):
    try:
        scene(20).save(folder / os.fsdecode(b"\xff\xfe.png"))
        (folder / os.fsdecode(b"broken\xff.png")).write_bytes(b"junk")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    make(folder, folder.parent / "index")
    index = Index.open(folder.parent / "index")
    files = {index.item(row).file for row in range(len(index))}
    assert {f"{'a' if i % 2 else 'b'}/{i:02}.png" for i in range(10)} <= files


def test_many_copies_of_one_picture_are_all_indexed(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        scene(0).save(tmp_path / "pictures" / f"{i:02}.png")
    make(tmp_path / "pictures", tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert len(index) == 20
    assert len({index.thumb(index.item(row)) for row in range(20)}) == 1


def test_threads_may_write_the_same_thumbnail_at_once(tmp_path):
    errors: list[Exception] = []
    jpeg = bytes(range(256)) * 4000

    def write(folder, start):
        start.wait()
        try:
            writer.write_thumb(folder, jpeg)
        except Exception as error:
            errors.append(error)

    for turn in range(20):
        start = threading.Barrier(6)
        threads = [threading.Thread(target=write, args=(tmp_path / str(turn), start)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert list(tree(tmp_path / str(turn)).values()) == [jpeg]


def test_pictures_of_extreme_shapes_are_indexed(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name, size in (("dot", (1, 1)), ("line", (9000, 1)), ("pole", (1, 9000))):
        Image.new("RGB", size, "red").save(tmp_path / "pictures" / f"{name}.png")
    assert make(tmp_path / "pictures", tmp_path / "index").rejected == ()
    index = Index.open(tmp_path / "index")
    assert [(index.item(row).width, index.item(row).height) for row in range(3)] == [(1, 1), (9000, 1), (1, 9000)]


def test_the_built_index_finds_each_of_its_pictures(folder, toy):
    make(folder, folder.parent / "index")
    searcher = Searcher(Index.open(folder.parent / "index"), toy)
    for name in ("a/03.png", "b/08.png"):
        assert searcher.search(Query(searcher.open(folder / name), k=1)).items[0].file == name


def thing(name, item=-1):
    return Object(item, (10.0, 20.5, 60.0, 80.0), "1 2 3", "disc", "disc-7", name, "drawn")


def test_notes_go_with_their_pictures_and_their_objects_get_the_ids(mixed, four_a_shard):
    notes = {
        "b/02.png": Metadata("two discs", "made here", "CC0-1.0", (thing("red"), thing("blue"))),
        "a/01.png": Metadata("empty"),
        "a/04-cut.png": Metadata("lost", objects=(thing("lost"),)),
        "a/no-such.png": Metadata("nowhere", objects=(thing("nowhere"),)),
    }
    make(mixed, mixed.parent / "index", metadata=notes)
    index = Index.open(mixed.parent / "index")
    items = {index.item(row).file: index.item(row) for row in range(len(index))}
    noted = items["b/02.png"]
    assert (noted.caption, noted.source, noted.licence) == ("two discs", "made here", "CC0-1.0")
    assert items["a/01.png"].caption == "empty" and items["a/03.png"].caption is None
    assert index.objects(noted.id) == (thing("red", noted.id), thing("blue", noted.id))
    assert sum(len(index.objects(id)) for id in range(20)) == 2


def test_a_shard_whose_notes_are_others_in_the_second_run_is_made_again(folder, four_a_shard, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    assert make(folder, out, heads=True, metadata={"a/01.png": Metadata("late", objects=(thing("late"),))}).resumed == 1
    index = Index.open(out)
    assert index.item(0).caption == "late"
    assert [thing.name for thing in index.objects(0)] == ["late"]


def test_a_portable_index_serves_its_thumbnails_of_the_size_asked_for(folder):
    make(folder, folder.parent / "index", portable=True, thumb_side=64)
    index = Index.open(folder.parent / "index")
    assert index.picture(index.item(0)) == index.thumb(index.item(0))
    with Image.open(index.picture(index.item(0))) as picture:
        assert picture.size == (64, 48)


# Exit statuses.


def run(capsys, *argv):
    status = main(["build", *map(str, argv), "--encoder", "toy", "--device", "cpu"])
    return (status, *capsys.readouterr())


def test_cli_status_is_0_with_at_least_one_readable_picture(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    scene(0).save(tmp_path / "pictures" / "good.png")
    for name in ("bad.png", "worse.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"junk")
    status, out, err = run(capsys, tmp_path / "pictures", "--out", tmp_path / "index", "--heads")
    assert status == 0
    assert out == "1 images indexed, 2 left out, 0 shards resumed\n"
    assert [line.split(":")[0] for line in err.splitlines()[-2:]] == ["left out bad.png", "left out worse.jpg"]
    assert len(Index.open(tmp_path / "index").space().z) == 1


def test_cli_status_is_1_when_no_picture_is_readable(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(b"junk")
    status, out, err = run(capsys, tmp_path / "pictures", "--out", tmp_path / "index")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("index_build: None of the 3 images")
    with pytest.raises(BadIndex):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize("case", ["no folder", "a file", "empty folder", "no pictures", "only hidden"])
def test_cli_status_is_1_without_a_folder_of_pictures_and_no_index_is_begun(tmp_path, case, capsys):
    folder = tmp_path / "pictures"
    if case == "a file":
        folder.write_bytes(b"")
    elif case != "no folder":
        folder.mkdir()
    if case == "no pictures":
        (folder / "notes.txt").write_bytes(b"")
    if case == "only hidden":
        scene(0).save(folder / ".secret.png")
    status, out, err = run(capsys, folder, "--out", tmp_path / "index")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("index_build: ") and str(folder) in err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("where", ["file", "file/index", "closed/index"])
def test_cli_status_is_1_where_the_index_cannot_be_written(folder, where, capsys):
    out = folder.parent / where
    (folder.parent / "file").write_bytes(b"precious")
    (folder.parent / "closed").mkdir(mode=0o500)
    if where.startswith("closed") and os.access(folder.parent / "closed", os.W_OK):
        pytest.skip("nothing is closed to root")
    status, printed, err = run(capsys, folder, "--out", out)
    assert (status, printed, err.count("\n")) == (1, "", 1)
    assert "cannot be written" in err and str(out) in err
    assert (folder.parent / "file").read_bytes() == b"precious"


def test_a_full_disk_is_one_sentence_and_the_next_build_finishes(folder, four_a_shard, monkeypatch, capsys):
    out = folder.parent / "index"
    real = writer.write_vectors
    written: list[str] = []

    def write(folder, vectors):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(real(folder, vectors))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_vectors", write)
        status, printed, err = run(capsys, folder, "--out", out)
    assert (status, printed) == (1, "")
    assert err.splitlines()[-1] == f"index_build: The index {out} cannot be written: No space left on device."
    assert make(folder, out).resumed == 2


def test_cli_status_is_1_for_an_unknown_encoder(folder, capsys):
    status = main(["build", str(folder), "--out", str(folder.parent / "index"), "--encoder", "nobody"])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "nobody" in err


# Builds that do not reach their end.


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


def test_the_command_line_says_how_many_shards_were_resumed(folder, four_a_shard, monkeypatch, capsys):
    interrupt(folder, folder.parent / "index", monkeypatch, heads=False)
    _, out, _ = run(capsys, folder, "--out", folder.parent / "index")
    assert out == "10 images indexed, 0 left out, 2 shards resumed\n"


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
    assert sum(seen.values()) == 10
    assert tree(unbroken) == before


CHILD = """
import sys, time
from pathlib import Path

sys.path.insert(0, {root!r})
import tests.conftest
from foir import images
from index_build import executor, pipeline

real = images.read


def read(path):
    while list(Path({out!r}, ".partial").glob("*.json")):
        time.sleep(1)
    return real(path)


images.read = read
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


def test_a_second_builder_at_once_is_refused_in_one_sentence(folder, capsys):
    out = folder.parent / "index"
    out.mkdir()
    held = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, printed, err = run(capsys, folder, "--out", out)
    finally:
        os.close(held)
    assert (status, printed) == (1, "")
    assert err == f"index_build: Another build is at work on {out}.\n"
    assert list(out.iterdir()) == []
    assert make(folder, out).image_count == 10


def test_a_failed_build_leaves_the_folder_unlocked(folder, four_a_shard, monkeypatch):
    out = folder.parent / "index"
    interrupt(folder, out, monkeypatch)
    held = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(held)


def test_the_old_index_stays_readable_while_a_new_build_is_unfinished(folder, unbroken, toy, monkeypatch):
    before = Index.open(unbroken)
    old = np.concatenate(before.space().shards)
    for i in range(4):
        scene(50 + i).save(folder / f"{i:02}-new.png")
    interrupt(folder, unbroken, monkeypatch)
    now = Index.open(unbroken)
    assert (len(now), now.manifest) == (10, before.manifest)
    assert np.array_equal(np.concatenate(now.space().shards), old)
    searcher = Searcher(now, toy)
    assert searcher.search(Query(searcher.open(folder / "a" / "05.png"), k=1)).items[0].file == "a/05.png"
    assert all(now.thumb(now.item(row)).is_file() for row in range(10))
    assert make(folder, unbroken, heads=True).image_count == 14
    assert np.array_equal(np.concatenate(before.space().shards), old)
    assert len(Index.open(unbroken)) == 14


def test_a_rebuild_leaves_nothing_of_the_old_index_behind(folder, tmp_path):
    out = tmp_path / "index"
    build(Plan(folder, out, "toy", heads=True, device="cpu"))
    (out / f"{0:032x}.safetensors.1.2.part").write_bytes(b"killed")
    (folder / "a" / "01.png").unlink()
    build(Plan(folder, out, "toy", device="cpu"))
    index = Index.open(out)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    thumbs = {f"thumbs/{digest[:2]}/{digest}.jpg" for digest in index.thumbs()}
    assert files == {"manifest.json", *index.manifest["files"], *thumbs}
    assert len(index) == 9


def test_files_of_others_in_the_index_folder_stay(folder, tmp_path):
    out = tmp_path / "index"
    theirs = ["train.parquet", "model.safetensors", "film.mkv.part", "notes.jsonl", "thumbs/holiday.jpg"]
    for name in theirs:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"precious")
    make(folder, out)
    make(folder, out)
    assert main(["gc", str(out)]) == 0
    assert all((out / name).read_bytes() == b"precious" for name in theirs)


def opened_with(folder, monkeypatch, soft, hard):
    """What a process says that may open so few files, of an index of ten shards with heads."""
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 1)
    make(folder, folder.parent / "index", heads=True)
    program = (
        "import resource, sys; from foir import Index, errors; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "try: print(len(Index.open(sys.argv[1])))\n"
        "except errors.FoirError as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", program, str(folder.parent / "index")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def test_many_shards_need_no_more_open_files_than_the_system_allows(folder, monkeypatch):
    assert opened_with(folder, monkeypatch, 24, 400) == "10\n"


def test_too_few_open_files_are_not_called_damage(folder, monkeypatch):
    said = opened_with(folder, monkeypatch, 16, 16)
    assert said.startswith("Unavailable") and "Too many open files" in said
