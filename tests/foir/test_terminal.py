"""What reaches a terminal: one line for each thing said, and no character that acts on the terminal."""

import argparse
import errno
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from foir import BadPrompt, terminal

HOSTILE = "\x1b]0;mine\x07 \x9b2J a\rb\nc\td \u202egpj.exe \u2028 \x7f \udc80"


def test_characters_that_act_on_a_terminal_are_written_out():
    assert terminal.escaped(HOSTILE) == (r"\x1b]0;mine\x07 \x9b2J a\rb\nc\td \u202egpj.exe \u2028 \x7f \udc80")


@pytest.mark.parametrize("text", ["plain.png", "Ünïcode 中文.jpg", "👩\u200d👧 family", "می\u200cخواهم", "a\\b"])
def test_names_in_any_language_stay_as_they_are(text):
    assert terminal.escaped(text) == text


def test_fields_are_one_line_on_a_stream_of_any_encoding(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.write(1, "é", HOSTILE)
    stream.flush()
    (line,) = stream.buffer.getvalue().decode("ascii").splitlines()
    assert line.startswith("1\t\\xe9\t\\x1b]0;mine")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "since the disk is full: free some space"),
        (errno.EDQUOT, "since the disk quota is used up: free some space"),
        (errno.EACCES, "since permission is denied: change the permissions"),
        (errno.EROFS, "since the file system is read-only: use another folder"),
        (errno.ENOTDIR, "Not a directory"),
    ],
)
def test_an_error_of_the_system_is_one_line_that_says_what_to_do(number, words, capsys):
    def fail():
        raise OSError(number, os.strerror(number), "a\nb")

    assert terminal.run_command("foir", fail) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(r"foir: a\nb cannot be read or written") and words in err


def test_errors_and_warnings_are_one_line_each(capsys):
    def complain():
        warnings.warn(f"beware {HOSTILE}", stacklevel=1)
        raise BadPrompt(f"no {HOSTILE}.")

    assert terminal.run_command("foir", complain) == 1
    out, err = capsys.readouterr()
    assert out == "" and [line[:15] for line in err.splitlines()] == ["warning: beware", r"foir: no \x1b]0"]
    assert terminal.run_command("foir", lambda: terminal.write("done")) == 0


def test_a_full_disk_behind_stdout_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    code = "import sys; from foir.terminal import run_command, write; sys.exit(run_command('foir', lambda: write('x')))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "foir: The output cannot be written, since the disk is full: free some space, then run it again.\n"
    )


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_argument_is_not_the_current_folder(text, capsys):
    parser = terminal.Parser(prog="foir")
    parser.add_argument("--out", type=terminal.path)
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", text])
    assert "argument --out: it is empty: name a file or a folder" in capsys.readouterr().err
    assert parser.parse_args(["--out", "a"]) == argparse.Namespace(out=Path("a"))


def test_what_a_shell_expands_to_an_option_is_escaped_too(capsys):
    with pytest.raises(SystemExit):
        terminal.Parser(prog="foir").parse_args(["--\x1b]0;mine\x07"])
    assert r"unrecognized arguments: --\x1b]0;mine\x07" in capsys.readouterr().err


def test_a_pipe_that_is_closed_early_is_no_error():
    code = (
        "import sys; from foir.terminal import run_command, write; "
        "sys.exit(run_command('foir', lambda: [write('x' * 99) for _ in range(9999)]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
