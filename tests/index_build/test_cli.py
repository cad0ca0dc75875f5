"""The command line: exit statuses and messages."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from foir import BadIndex, Index
from foir.cli.main import main as search
from foir.index import writer
from index_build.cli import main
from index_build.maintenance import find_damage
from index_build.publish import publish
from tests import standin_hub
from tests.conftest import scene
from tests.index_build.conftest import interrupt, make

hub_server = standin_hub.hub


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
    sentence = f"The index {out} cannot be written, since the disk is full: free some space, then run it again."
    assert err.splitlines()[-1] == f"index_build: {sentence}"
    assert make(folder, out).resumed == 2


def test_cli_status_is_1_for_an_unknown_encoder(folder, capsys):
    status = main(["build", str(folder), "--out", str(folder.parent / "index"), "--encoder", "nobody"])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "nobody" in err


def test_the_command_line_says_how_many_shards_were_resumed(folder, four_a_shard, monkeypatch, capsys):
    interrupt(folder, folder.parent / "index", monkeypatch, heads=False)
    _, out, _ = run(capsys, folder, "--out", folder.parent / "index")
    assert out == "10 images indexed, 0 left out, 2 shards resumed\n"


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


@pytest.mark.parametrize("command", ["build", "update", "add", "remove", "verify", "gc", "publish", "pull"])
def test_help_and_messages_name_the_command_that_was_called(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"], prog="foir index")
    assert f"Example: foir index {command} " in capsys.readouterr().out


HOSTILE = "\x1b]0;mine\x07\r\n\u202e.png"


def test_names_of_files_reach_no_terminal_as_they_are(folder, capfd):
    out = folder.parent / "index"
    scene(11).save(folder / f"good{HOSTILE}")
    (folder / f"bad{HOSTILE}").write_bytes(b"junk")
    assert main(["build", str(folder), "--out", str(out), "--encoder", "toy", "--device", "cpu"]) == 0
    assert main(["remove", str(out), f"absent{HOSTILE}"]) == 1
    assert main(["add", str(out), str(folder / f"bad{HOSTILE}"), "--device", "cpu"]) == 0
    assert main(["verify", str(out)]) == 0
    assert search(["search", str(out), str(folder / f"good{HOSTILE}"), "--device", "cpu"]) == 0
    assert search(["search", str(out), str(folder / f"bad{HOSTILE}"), "--device", "cpu"]) == 1
    printed, err = capfd.readouterr()
    progress = err.replace("\r", "\n")  # of the progress bars
    assert not any(sign in printed + progress for sign in ("\x1b", "\x07", "\r", "\u202e"))
    assert r"left out bad\x1b]0;mine\x07\r\n\u202e.png: " in err
    assert r"good\x1b]0;mine\x07\r\n\u202e.png" in printed


@pytest.mark.parametrize(
    "argv",
    [
        ["build", "", "--out", "x"],
        ["build", "x", "--out", ""],
        ["update", ""],
        ["add", "", "x"],
        ["add", "x", ""],
        ["remove", "", "x"],
        ["verify", ""],
        ["gc", ""],
        ["publish", "", "--repo", "a/b"],
        ["pull", "a/b", "--out", ""],
        ["deploy-space", "--repo", "a/b", "--index", ""],
        ["bench", ""],
        ["playroom", "--out", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(argv)
    assert capsys.readouterr().err.endswith(": it is empty: name a file or a folder\n")
    assert list(tmp_path.iterdir()) == []


WRITES = {  # what each command calls when it writes
    "build": (os, "fsync"), "update": (os, "fsync"), "add": (os, "fsync"), "remove": (os, "fsync"),
    "pull": (os, "fsync"), "gc": (Path, "unlink"), "publish": (Path, "symlink_to"),
}  # fmt: skip


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("command", WRITES)
def test_a_full_or_closed_disk_is_one_sentence(command, number, out, hub_server, monkeypatch, capfd):
    pictures = out.parent / "pictures"
    scene(11).save(pictures / "new.png")
    if command == "pull":
        publish(out, "tester/index")
    if command == "gc":
        assert main(["remove", str(out), "a/01.png"]) == 0
    arguments = {
        "build": [str(pictures), "--out", str(out), "--encoder", "toy"], "update": [str(out)],
        "add": [str(out), str(pictures / "new.png")], "remove": [str(out), "a/01.png"], "gc": [str(out)],
        "pull": ["tester/index", "--out", str(out.parent / "pulled")], "publish": [str(out), "--repo", "tester/index"],
    }[command]  # fmt: skip
    before = (out / "manifest.json").read_bytes()

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(*WRITES[command], fail)
        assert main([command, *arguments]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("index_build: The index ") and " cannot be written, since " in last and last.endswith(".")
    assert (out / "manifest.json").read_bytes() == before and find_damage(out) == []
    assert not list(out.rglob("*.part"))


def test_a_full_cache_of_the_hub_is_no_broken_connection(hub_server, tmp_path, monkeypatch, capsys):
    def fail(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hub_server.add("tester/index", {"manifest.json": b"{}"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert main(["pull", "tester/index", "--out", str(tmp_path / "index")]) == 1
    err = capsys.readouterr().err
    assert err == (
        "index_build: The data set tester/index cannot be fetched, since the disk is full: "
        "free some space, then run it again.\n"
    )
