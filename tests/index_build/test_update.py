"""Updating an index in place, and readers that are open meanwhile."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foir import Index, Searcher, Unavailable, decoders
from foir.index import digest_cache, reader
from foir.regions.recipe import RegionRecipe
from foir.search.query import Query
from index_build import maintenance
from index_build.changes import UpdateResult
from index_build.encoding import LoadedEncoders
from index_build.maintenance import find_damage, gc
from index_build.pipeline import Plan, build
from index_build.sources.folder import printable_name
from index_build.update import add, remove, update
from tests.conftest import adopt, draw, scene
from tests.index_build.conftest import FILES, NOTED, A, B, by_name, content, ids, left_out, refused, run_command, tree

pytestmark = pytest.mark.usefixtures("small_and_apart")


def test_an_update_takes_in_new_changed_touched_renamed_and_missing_files_and_leaves_the_others(out, pictures, check):
    before = by_name(out)
    scene(20).save(pictures / "new.png")
    scene(21, (90, 70)).save(pictures / "a" / "03.png")
    os.utime(pictures / "b" / "02.png", (1, 1))
    (pictures / "a" / "01.png").rename(pictures / "z.png")
    (pictures / "b" / "08.png").unlink()
    assert update(out) == UpdateResult(("new.png",), ("a/03.png",), ("b/08.png",), moved=("z.png",))
    index, now = check(out), by_name(out)
    same = set(FILES) - {"a/01.png", "a/03.png", "b/08.png"}
    touched = replace(before["b/02.png"], modified=1_000_000_000)
    assert {file: now[file] for file in same} == {file: before[file] for file in same} | {"b/02.png": touched}
    fresh = {file: item.id for file, item in now.items() if file not in same}
    assert fresh == {"a/03.png": 1, "new.png": 10, "z.png": before["a/01.png"].id}
    assert replace(now["z.png"], file="a/01.png") == before["a/01.png"]
    item = now["a/03.png"]
    assert (item.caption, item.source, item.licence, item.width, index.objects(1)) == (None, None, None, 90, ())
    assert now["b/04.png"].caption == "of b/04.png"
    assert [thing.name for id in range(12) for thing in index.objects(id)] == sorted(set(NOTED) & same)
    assert update(out) == UpdateResult()


def test_files_that_are_renamed_cost_no_encode_and_copies_are_told_apart(out, pictures, check, no_encoder):
    before = by_name(out)
    (pictures / "moved").mkdir()
    names = {file: f"moved/{number:03}.png" for number, file in enumerate(FILES)}
    for file, name in names.items():
        (pictures / file).rename(pictures / name)
    done = update(out)  # all of them: it is no folder that vanished
    assert done == UpdateResult(moved=tuple(sorted(names.values())))
    check(out)
    assert {name: item.id for name, item in by_name(out).items()} == {names[file]: before[file].id for file in FILES}
    (pictures / "moved" / "000.png").rename(pictures / "one.png")
    (pictures / "two.png").write_bytes((pictures / "one.png").read_bytes())
    with pytest.raises(pytest.fail.Exception, match="encoder is loaded"):  # the second has no vector yet
        update(out)


def test_most_of_a_folder_gone_is_asked_about(tmp_path):
    pictures, folder = draw(tmp_path / "pictures", 24), tmp_path / "index"
    build(Plan(pictures, folder, "toy", device="cpu"))
    for path in sorted(pictures.iterdir())[4:]:
        path.unlink()
    with pytest.raises(Unavailable, match="20 of the 24 files .* --accept-missing"):
        update(folder)
    assert len(Index.open(folder)) == 24
    assert len(update(folder, accept_missing=True).removed) == 20 and len(Index.open(folder)) == 4


def test_what_cannot_be_read_is_tried_again_when_it_changed(out, pictures, monkeypatch):
    real, tried = decoders.read, []

    def read(path, **how):
        tried.append(Path(path).name)
        return real(path, **how)

    monkeypatch.setattr(decoders, "read", read)
    (pictures / "bad.png").write_bytes(b"junk")
    for _ in range(2):
        assert [entry["file"] for entry in update(out).rejected] == ["bad.png"]
    assert tried == ["bad.png"] and [entry["file"] for entry in left_out(out)] == ["bad.png"]
    monkeypatch.setattr("index_build.retries.installed_extras", lambda: ["another"])
    assert len(update(out).rejected) == 1 and tried == ["bad.png"] * 2
    scene(30).save(pictures / "bad.png")
    assert update(out) == UpdateResult(added=("bad.png",)) and left_out(out) == []


def test_an_id_is_never_given_again(out, pictures, check):
    remove(out, ["b/08.png"])
    for id in (10, 11, 12):
        update(out)
        assert ids(out) == {file: id for id, file in enumerate(FILES[:-1])} | {"b/08.png": id}
        (pictures / "b" / "08.png").unlink()
        update(out)
        scene(id).save(pictures / "b" / "08.png")
    update(out)
    check(out)


@pytest.mark.parametrize(
    "names", [["a/bad.png"], ["a/00.png", "b/02.png"], ["\n.png"], ["\x85.png"], ["\u2028.png"], ["\udcff.png"]]
)
def test_a_damaged_file_is_listed_and_tried_again_and_changes_nothing_else(out, pictures, check, names):
    for seed, name in ((40, "a/000.png"), (41, "z.png")):
        scene(seed).save(pictures / name)
    for name in names:
        try:
            (pictures / name).write_bytes(b"junk")
        except (OSError, UnicodeError):
            pytest.skip("this file system takes no such names")
        update(out)
    assert ids(out).keys() >= {"a/000.png", "z.png"}
    before, done = tree(out), update(out)
    assert (done.added, done.reencoded, done.removed, tree(out)) == ((), (), (), before)
    assert sorted(entry["file"] for entry in done.rejected) == [printable_name(name) for name in names]
    assert all("not a picture" in entry["reason"] or "not UTF-8" in entry["reason"] for entry in left_out(out))
    for seed, name in enumerate(names):
        scene(20 + seed).save(pictures / name)
    assert list(update(out).added) == [name for name in names if name == printable_name(name)]
    check(out)


@pytest.mark.parametrize("change", [update, lambda out: add(out, [out.parent / "pictures/a/05.png"])])
def test_a_picture_that_is_damaged_now_leaves_the_index_and_comes_back_as_another(out, pictures, check, change):
    good = (pictures / "a" / "05.png").read_bytes()
    (pictures / "a" / "05.png").write_bytes(good[: len(good) // 2])
    done = change(out)
    assert (done.added, done.reencoded, done.removed) == ((), (), ("a/05.png",))
    assert [entry["file"] for entry in left_out(out)] == ["a/05.png"]
    assert {item.file for item in check(out).items()} == set(FILES) - {"a/05.png"}
    (pictures / "a" / "05.png").write_bytes(good)
    assert change(out) == UpdateResult(added=("a/05.png",))
    assert ids(out)["a/05.png"] >= 10 and left_out(out) == []
    check(out)


def test_where_nothing_changed_nothing_is_written_and_no_encoder_loaded(out, no_encoder):
    before = tree(out)
    assert update(out) == UpdateResult()
    assert tree(out) == before


@pytest.mark.parametrize("change", [update, lambda out: add(out, [out.parent / "pictures"])])
@pytest.mark.parametrize("case", ["missing", "a file", "no pictures"])
def test_without_its_folder_or_pictures_in_it_the_index_stays_as_it_is(out, pictures, case, change, no_encoder):
    before = tree(out)
    pictures.rename(out.parent / "elsewhere")
    if case == "a file":
        pictures.touch()
    elif case == "no pictures":
        pictures.mkdir()
        (pictures / "notes.txt").touch()
        scene(0).save(pictures / ".hidden.png")
    with pytest.raises(Unavailable) as error:
        change(out)
    refused(error, pictures)
    assert tree(out) == before


@pytest.fixture
def closed(pictures, monkeypatch):
    """Nobody may list the folder "a"; root, who runs some tests, could otherwise."""
    real = os.scandir

    def scandir(path):
        if path == str(pictures / "a"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_listed_keeps_its_pictures(out, pictures, check, closed, monkeypatch):
    before = ids(out)
    scene(20).save(pictures / "b" / "new.png")
    scene(21).save(pictures / "a" / "unseen.png")
    (pictures / "b" / "00.png").unlink()
    done = update(out)
    assert (done.added, done.reencoded, done.removed) == (("b/new.png",), (), ("b/00.png",))
    assert ids(out) == {file: id for file, id in before.items() if file != "b/00.png"} | {"b/new.png": 10}
    assert [entry["file"] for entry in left_out(out)] == ["a"] and "cannot be listed" in left_out(out)[0]["reason"]
    manifest = check(out).manifest
    update(out)
    assert Index.open(out).manifest == manifest
    monkeypatch.undo()
    assert update(out) == UpdateResult(added=("a/unseen.png",))
    assert left_out(out) == []


def test_whoever_updates_is_told_of_a_folder_that_cannot_be_listed(out, closed, capsys):
    assert "left out a: The folder cannot be listed" in run_command(capsys, "update", out)[2]


def test_an_index_in_its_folder_never_holds_its_own_thumbnails(tmp_path, check):
    out = draw(tmp_path / "pictures", 3) / "sub" / "index"
    build(Plan(tmp_path / "pictures", out, "toy", device="cpu"))
    scene(20).save(tmp_path / "pictures" / "sub" / "new.png")
    assert update(out) == UpdateResult(added=("sub/new.png",))
    assert add(out, [out.parent]) == UpdateResult()
    with pytest.raises(Unavailable):
        add(out, [out])
    assert update(out) == UpdateResult() and len(check(out)) == 4


def test_an_index_that_was_built_through_a_link_finds_its_folder(tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    build(Plan(draw(tmp_path / "pictures", 2), tmp_path / "link", "toy", device="cpu"))
    assert update(tmp_path / "link") == UpdateResult()


@pytest.mark.parametrize("two", [False, True], ids=["one model", "two models"])
def test_both_spaces_stay_aligned(tmp_path, toy, check, two):
    pictures, out = draw(tmp_path / "pictures", 6), tmp_path / "index"
    other = replace(toy, name="other", mean=(0.1, 0.9, 0.1)) if two else toy
    encoders_used = LoadedEncoders({"image": toy, "text": other}) if two else None
    build(Plan(pictures, out, "toy-words", heads=True, device="cpu"), encoders_used)
    for step in range(3):
        scene(20 + step).save(pictures / f"0{step}.png")
        scene(30 + step).save(pictures / f"new{step}.png")
        assert update(out, encoders=encoders_used).added == (*(["05.png"] if step else []), f"new{step}.png")
        remove(out, ["05.png"])
        spaces = check(out, text=other).manifest.spaces
        assert (spaces["image"].shards == spaces["text"].shards) != two
        assert spaces["image"].heads and not spaces["text"].heads


@pytest.mark.parametrize(
    ("change", "names", "added", "renewed", "removed"),
    [
        (add, ["x/1.png"], ["x/1.png"], [], []),
        (add, ["x", "x/1.png", "a/../x/2.png"], ["x/1.png", "x/2.png"], [], []),
        (add, ["b/00.png", "x/2.png", "a"], ["x/2.png"], ["a/03.png"], []),  # only one of them is another now
        (add, ["."], ["x/1.png", "x/2.png", "y.png"], ["a/03.png"], []),
        (remove, ["b/08.png", "a/01.png", "a/01.png"], [], [], ["a/01.png", "b/08.png"]),
        (remove, ["a"], [], [], A),
        (remove, ["a/", "./b/00.png"], [], [], [*A, "b/00.png"]),
    ],
)
def test_what_is_named_changes_and_nothing_else(out, pictures, check, change, names, added, renewed, removed):
    before, old = by_name(out), content(Index.open(out))
    (pictures / "x").mkdir()
    for seed, name in ((20, "x/1.png"), (21, "x/2.png"), (22, "y.png")):
        scene(seed).save(pictures / name)
    if renewed:
        scene(23).save(pictures / "a/03.png")
    done = change(out, [pictures / name for name in names] if change == add else names)
    assert done == UpdateResult(tuple(added), tuple(renewed), tuple(removed))
    index, same = check(out), [file for file in FILES if file not in {*renewed, *removed}]
    assert ids(out) == {file: id for id, file in enumerate([*FILES, *added]) if file not in removed}
    assert {file: by_name(out)[file] for file in same} == {file: before[file] for file in same}
    assert {file: content(index)[file] for file in same} == {file: old[file] for file in same}
    assert [thing.name for id in range(10) for thing in index.objects(id)] == [file for file in NOTED if file in same]
    assert all((pictures / name).is_file() for name in FILES)


@pytest.mark.parametrize(
    ("change", "names", "word"),
    [(add, [name], name) for name in ("../outside.png", "nowhere.png", "../nowhere.png", "empty")]
    + [(add, ["a", "nowhere.png"], "nowhere.png")]
    + [(remove, [name], f"no image {name}") for name in ("a/0", "01.png", "A/01.png", "x.png", "", "/", "..", "*")]
    + [(remove, ["a/01.png", "x.png"], "x.png"), (remove, ["a", "b"], "No image of the index")],
)
def test_what_cannot_be_is_refused_and_changes_nothing(out, pictures, change, names, word, no_encoder):
    (pictures / "empty").mkdir()
    scene(20).save(out.parent / "outside.png")
    before = tree(out)
    with pytest.raises(Unavailable) as error:
        change(out, [pictures / name for name in names] if change == add else names)
    refused(error, word)
    assert tree(out) == before


@pytest.mark.parametrize("name", ["link.png", ".hidden.png", "picture"])
def test_what_is_added_is_what_an_update_would_take(out, pictures, name):
    if name == "link.png":
        (pictures / name).symlink_to(pictures / "a" / "01.png")
    else:
        scene(20).save(pictures / name, "PNG")
    try:
        assert add(out, [pictures / name]) == UpdateResult(added=(name,))
    except Unavailable:  # to refuse is as good
        return
    assert update(out) == UpdateResult()


def test_a_portable_index_gives_pictures_up_and_takes_none(out, pictures, no_encoder):
    adopt(out, None)
    assert remove(out, ["a/01.png", "b"]) == UpdateResult(removed=("a/01.png", *B))
    assert ids(out) == {file: id for id, file in enumerate(A) if id} and Index.open(out).root is None
    for change in (update, lambda out: add(out, [pictures / "b"])):
        with pytest.raises(Unavailable) as error:
            change(out)
        refused(error, "--root FOLDER")


def test_many_small_changes_do_not_leave_many_shards(out, pictures, check):
    def lengths():
        space = Index.open(out).space()
        assert [len(z) for z in space.z] == [len(shard) for shard in space.shards]
        return [len(shard) for shard in space.shards]

    before = Index.open(out).manifest.spaces["image"]
    for i in range(9):
        scene(20 + i).save(pictures / f"new{i}.png")
        add(out, [pictures / f"new{i}.png"])
    assert lengths() == [4, 4, 4, 4, 3]
    now = check(out).manifest.spaces["image"]
    assert (now.shards[:2], now.heads[:2]) == (before.shards[:2], before.heads[:2])
    for name in ("b/00.png", "new0.png", "new1.png", "b/02.png"):
        remove(out, [name])
    assert lengths() == [4, 4, 4, 3]
    assert check(out).manifest.spaces["image"].heads[0] == before.heads[0]
    gc(out)
    assert len(list(out.glob("*.safetensors"))) == 12
    check(out)


@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_a_reader_goes_on_with_what_it_opened_and_the_next_scores_unchanged_pictures_alike(out, pictures, toy, mode):
    def found(searcher):
        hits = searcher.search(Query(searcher.open(pictures / "b" / "06.png"), mode=mode))
        return dict(zip((item.file for item in hits.items), hits.scores.tolist(), strict=True))

    index = Index.open(out)
    reader, old = Searcher(index, toy), content(index)
    before = found(reader)
    for seed, name in ((20, "a/03.png"), (21, "0.png"), (22, "1.png")):
        scene(seed).save(pictures / name)
    update(out)
    remove(out, ["a/09.png", "b/00.png"])
    assert gc(out) > 0
    assert content(index) == old and found(reader) == before
    now, same = found(Searcher(Index.open(out), toy)), before.keys() - {"a/03.png", "a/09.png", "b/00.png"}
    assert now.keys() == same | {"a/03.png", "0.png", "1.png"} and next(iter(now)) == "b/06.png"
    assert {file: now[file] for file in same} == pytest.approx({file: before[file] for file in same}, abs=1e-6)
    assert abs(now["a/03.png"] - before["a/03.png"]) > 1e-4


def test_an_index_changed_step_by_step_holds_what_a_fresh_one_does(out, pictures):
    random, fresh = np.random.default_rng(5), out.parent / "fresh"
    for step in range(8):
        names = random.permutation(sorted(map(str, pictures.rglob("*.png")))).tolist()
        Path(names[0]).unlink()
        Path(names[1]).rename(pictures / f"{step}-renamed.png")
        for i, name in enumerate([*names[2:4], f"{pictures}/a/{step}.png", f"{pictures}/{step}.png"]):
            scene(40 + 10 * step + i).save(name)
        update(out)
    build(Plan(pictures, fresh, "toy", heads=True, device="cpu"))
    facts = [{file: replace(item, id=0) for file, item in by_name(each).items()} for each in (out, fresh)]
    noted = {file: replace(item, caption=None, source=None, licence=None) for file, item in facts[0].items()}
    assert noted == facts[1] and len(noted) == 18
    stepped, anew = content(Index.open(out)), content(Index.open(fresh))
    for file in anew:
        one, two = (np.frombuffer(each[file], np.float16) for each in (stepped, anew))
        assert np.allclose(one, two, atol=1e-3)


@pytest.mark.parametrize(
    ("room", "after"), [(reader, "read_manifest"), (reader, "verified_files"), (maintenance, "read_manifest")]
)
def test_a_reader_under_which_the_index_changes_sees_the_new_state(out, room, after, monkeypatch):
    real = getattr(room, after)

    def then_change(*args):
        result = real(*args)
        monkeypatch.setattr(room, after, real)
        remove(out, ["a/01.png"])
        gc(out)
        return result

    monkeypatch.setattr(room, after, then_change)
    if room is maintenance:
        assert list(find_damage(out)) == []
    assert content(Index.open(out)).keys() == set(FILES) - {"a/01.png"}


@pytest.mark.parametrize("settled", [-1.0, 2.0], ids=["files known", "files read"])
def test_a_reader_sees_an_old_or_a_new_state_whenever_it_comes(out, pictures, toy, settled, monkeypatch):
    monkeypatch.setattr(digest_cache, "SETTLED", settled)
    encoders_used, done = LoadedEncoders({"image": toy}, RegionRecipe()), threading.Event()

    def state():
        index = Index.open(out)
        return index.manifest.digest, content(index)

    def look():
        seen = [state()]
        while not done.is_set():
            seen.append(state())
        return seen

    states = dict([state()])
    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(look) for _ in range(2)]
        try:
            for step in range(8):
                scene(20 + step).save(pictures / FILES[step])
                update(out, encoders=encoders_used)
                states |= [state()]
                gc(out)
        finally:
            done.set()
    seen = [each for reader in readers for each in reader.result()]
    assert len(states) == 9 and len({digest for digest, _ in seen}) > 2
    assert all(found == states[digest] for digest, found in seen)


def test_a_change_leaves_the_records_of_a_killed_build(made, out, monkeypatch):
    records = out / ".partial"
    records.mkdir()
    (records / "somebody.json").write_text("{}")
    remove(out, [Index.open(out).item(0).file])
    assert [path.name for path in records.iterdir()] == ["somebody.json"]
