"""Verifying and cleaning an index; no command touches a damaged one."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from foir import Index
from foir.index import digest_cache
from foir.index.format import MANIFEST
from index_build.maintenance import find_damage
from tests.conftest import scene
from tests.index_build.conftest import file_of, flip, rewrite, run_command, tree

pytestmark = pytest.mark.usefixtures("small_and_apart")


COMMANDS = ("verify", "add", "remove", "update", "gc")


@pytest.mark.parametrize("damage", [flip, Path.unlink])
@pytest.mark.parametrize("kind", ["manifest", "vectors", "heads", "regions", "items", "objects", "rejected"])
def test_verify_names_what_is_damaged_and_no_command_touches_it(full, kind, damage, capsys):
    assert list(find_damage(full)) == []
    damage(path := file_of(full, kind))
    before = tree(full)
    for command in COMMANDS:
        status, printed, err = run_command(capsys, command, full)
        assert (status, printed) == (1, "") and err.splitlines()[-1].startswith("index_build: ")
        assert kind == "manifest" or path.name in err.splitlines()[-1]
    assert tree(full) == before


def test_verify_names_everything_that_is_damaged(out, capsys):
    thumbs = [Index.open(out).thumb(item) for item in Index.open(out).items()[2:4]]
    for wrong in (thumbs, [file_of(out, "vectors"), file_of(out, "items")]):
        flip(wrong[0])
        wrong[1].unlink()
        assert len(list(find_damage(out))) == 2
        status, printed, err = run_command(capsys, "verify", out)
        lines = err.splitlines()[-2:]
        assert (status, printed) == (1, "") and all(line.startswith("index_build: The ") for line in lines)
        assert all(path.name in "".join(lines) for path in wrong)


def test_verify_does_not_trust_the_record(out, tmp_path, monkeypatch):
    monkeypatch.setattr(digest_cache, "SETTLED", -1.0)
    Index.open(out)
    flip(path := file_of(out, "vectors"))
    (record,) = (tmp_path / "cache").rglob("*.json")
    known, stat = json.loads(record.read_text()), path.stat()
    known[path.name][1:] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    record.write_text(json.dumps(known))
    Index.open(out)  # which does
    assert path.name in "".join(find_damage(out))


OTHER = {
    "no files": lambda manifest: manifest.pop("files"),
    "a list": lambda manifest: manifest.update(files=[]),
    "no digest": lambda manifest: manifest["files"].update({manifest["items"]: {}}),
    "no name": lambda manifest: manifest["files"].update({"\0": {"sha256": ""}}),
    "not listed": lambda manifest: manifest["files"].pop(manifest["items"]),
}


@pytest.mark.parametrize("case", OTHER)
def test_verify_says_so_where_the_manifest_has_other_facts(out, case, capsys):
    rewrite(out, OTHER[case])
    status, printed, err = run_command(capsys, "verify", out)
    assert (status, printed) == (1, "") and err.splitlines()[-1].startswith("index_build: ")


def test_each_command_says_in_a_line_what_it_did(full, pictures, capsys):
    scene(20).save(pictures / "new.png")
    hint = f"python -m index_build gc {full} removes what only the old state used\n"
    status, printed, err = run_command(capsys, "update", full)
    assert (status, printed) == (0, "1 images added, 0 encoded again, 0 removed\n")
    assert err.splitlines()[-1].startswith("left out bad.png: bad.png is not a picture")
    scene(21).save(pictures / "a" / "01.png")
    assert run_command(capsys, "add", full)[:2] == (0, "0 images added, 1 encoded again, 0 removed\n" + hint)
    assert run_command(capsys, "remove", full) == (0, "0 images added, 0 encoded again, 1 removed\n" + hint, "")
    assert run_command(capsys, "verify", full)[:2] == (0, "10 images, every byte as it was published\n")
    (full / "notes.txt").write_bytes(b"mine")
    files, (status, printed, err) = len(tree(full)), run_command(capsys, "gc", full)
    assert (status, printed, err) == (0, f"{files - len(tree(full))} files removed\n", "") and len(tree(full)) < files
    index = Index.open(full)
    assert {name for name in tree(full) if "/" not in name} == {MANIFEST, "notes.txt", *index.manifest.files}
    assert {Path(name).stem for name in tree(full / "thumbs")} == index.thumbs()
    assert run_command(capsys, "gc", full) == (0, "0 files removed\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_index_is_one_line_and_one_that_a_build_is_at_work_on_is_only_read(out, tmp_path, command, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", tmp_path / "empty", tmp_path / "file"):
        status, printed, err = run_command(capsys, command, path)
        assert (status, printed, err.count("\n")) == (1, "", 1)
        assert err.startswith("index_build: ") and str(path) in err
    assert not (tmp_path / "nowhere").exists() and not list((tmp_path / "empty").iterdir())
    before, held = tree(out), os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = run_command(capsys, command, out)
        assert command == "verify" or told == (1, "", f"index_build: Another build is at work on {out}.\n")
        assert tree(out) == before
    finally:
        os.close(held)
    assert run_command(capsys, command, out)[0] == 0
