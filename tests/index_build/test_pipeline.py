"""Building indexes: what is left out, what ids mean, and what a reader sees meanwhile."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foir import Index, Searcher, Unavailable, images
from foir.index import writer
from foir.search.query import Query
from index_build import executor, pipeline
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import scene
from tests.index_build.conftest import BROKEN, ROOT, check_alignment, interrupt, make, thing, tree


@pytest.mark.parametrize("shard", [4, 1024])
def test_damaged_files_are_listed_with_reasons_and_skipped(mixed, shard, monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", shard)
    out = mixed.parent / "index"
    built = make(mixed, out)
    assert built.image_count == len(Index.open(out)) == 10
    assert [entry["file"] for entry in built.rejected] == list(BROKEN)
    for entry in built.rejected:
        assert BROKEN[entry["file"]] in entry["reason"] and Path(entry["file"]).name in entry["reason"]
    lines = (out / Index.open(out).manifest.rejected).read_text("utf-8").splitlines()
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


def test_a_portable_index_serves_its_thumbnails_of_the_size_asked_for(folder):
    make(folder, folder.parent / "index", portable=True, thumb_side=64)
    index = Index.open(folder.parent / "index")
    assert index.picture(index.item(0)) == index.thumb(index.item(0))
    with Image.open(index.picture(index.item(0))) as picture:
        assert picture.size == (64, 48)


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
    assert files == {"manifest.json", *index.manifest.files, *thumbs}
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
