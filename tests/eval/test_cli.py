"""The command line: errors are one line, results are written."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from eval import cli as command
from eval.datasets import registry as data_registry
from eval.datasets.base import CaptionedDataset, Dataset, Query
from eval.experiments import registry
from eval.experiments.results_cache import ResultsCache
from eval.report import results
from foir import Unavailable
from foir.prompts import Prompt
from tests.conftest import scene
from tests.foir.image_text import internvl_repository


@pytest.mark.parametrize("words", [["run", "nothing"], ["run", "coco-small", "--dataset", "imagenet"]])
def test_unknown_names_are_one_line_on_stderr(words, capsys):
    assert command.main(words) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert err.startswith("eval: There is no ")


def test_missing_data_says_what_to_put_where(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    assert command.main(["run", "coco-small"]) == 1
    assert str(tmp_path / "coco_small") in capsys.readouterr().err


def test_what_runs_is_kept_for_the_report(tmp_path, monkeypatch, capsys):
    pictures = tuple((lambda i=i: scene(i)) for i in range(4))
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    queries = tuple(Query(i, Prompt.box(5, 5, 70, 60), i // 2) for i in range(4))
    small = Dataset("small", pictures, labels, queries, pictures, ("a", "b"), leave_one_out=True)
    monkeypatch.setitem(data_registry.LOADERS, "small", (Dataset, lambda: small))
    words = [
        "run",
        "phs-table1",
        "--encoder",
        "toy",
        "--dataset",
        "small",
        "--device",
        "cpu",
        "--results",
        str(tmp_path),
    ]
    assert command.main([*words, "--json", str(tmp_path / "one.json")]) == 0
    kept = (tmp_path / "cells" / "phs-table1-small-toy.json").read_text()
    assert kept == (tmp_path / "one.json").read_text()
    assert command.main(["run", "phs-fig3", "--dataset", "small", "--results", str(tmp_path)]) == 0
    assert command.main([words[0], "phs-figA4", *words[2:]]) == 0
    assert (tmp_path / "phs-figA4-small-toy.png").exists()
    assert "drawn" in capsys.readouterr().out


def test_a_revision_is_of_one_model(tmp_path, capsys):
    words = ["run", "qpert-table4", "--revision", "0" * 40, "--results", str(tmp_path)]
    assert command.main(words) == 1
    assert capsys.readouterr().err == "eval: A --revision is of one model's weights: name that model with --encoder.\n"


def test_a_model_that_needs_a_commit_is_reached(tmp_path, monkeypatch, captioned):
    """InternVL-G's repository with small random weights, in two rows of its table."""
    monkeypatch.setitem(data_registry.LOADERS, "made", (CaptionedDataset, lambda: captioned))
    words = ["run", "qpert-table4", "--encoder", "internvl-g", "--dataset", "made", "--device", "cpu"]
    with internvl_repository.cached(tmp_path / "hub"):
        words += ["--revision", internvl_repository.COMMIT, "--results", str(tmp_path)]
        assert command.main([*words, "--json", str(tmp_path / "one.json")]) == 0
    cells = results.read(tmp_path / "one.json")
    assert {cell.method for cell in cells} == {"plain", "qpert"}
    assert {cell.revisions["encoder"] for cell in cells} == {internvl_repository.COMMIT}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x", "--results", ""],
        ["run", "x", "--json", ""],
        ["run", "x", "--adapter", ""],
        ["report", "--results", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(words, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert capsys.readouterr().err.endswith(": it is empty: name a file or a folder\n")


@pytest.mark.parametrize("option", ["--results", "--json"])
def test_a_folder_that_cannot_be_written_is_known_before_anything_is_measured(option, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_bytes(b"precious")
    monkeypatch.setattr(type(registry()["phs-table1"]), "run", lambda *args: pytest.fail("it measures"))
    words = ["run", "phs-table1", "--results", str(tmp_path / "results"), option, str(tmp_path / "file" / "x")]
    assert command.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("eval: The results in ") and " cannot be written: " in err and err.count("\n") == 1


CELL = results.Cell("phs-table1", "small", "toy", "phs", {}, f"\x1b]0;mine\x07{chr(0x202E)}", 1.0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("words", [["run", "phs-table1", "--dataset", "small", "--encoder", "toy"], ["report"]])
def test_a_full_or_closed_disk_is_one_sentence(words, number, tmp_path, monkeypatch, capsys):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    results.write([CELL], tmp_path / "cells" / "one.json")
    monkeypatch.setattr(type(registry()["phs-table1"]), "run", lambda *args: [CELL])
    monkeypatch.setattr(Path, "write_text", fail)
    assert command.main([*words, "--results", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("eval: The results ") and " cannot be written, since " in err and err.count("\n") == 1


def test_a_disk_that_fills_while_features_are_kept_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(Unavailable, match="since the disk is full"):
        ResultsCache(tmp_path / "cache").get("key", lambda: {"x": np.zeros(3)})
    assert list((tmp_path / "cache").iterdir()) == []


def test_results_are_escaped_on_a_terminal_and_stay_valid_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(type(registry()["phs-table1"]), "run", lambda *args: [CELL])
    words = ["run", "phs-table1", "--dataset", "small", "--encoder", "toy", "--results", str(tmp_path)]
    assert command.main([*words, "--json", str(tmp_path / "one.json")]) == 0
    printed = capsys.readouterr().out
    assert r"\x1b]0;mine\x07\u202e" in printed and "\x1b" not in printed
    (written,) = json.loads((tmp_path / "one.json").read_text())
    assert written["metric"] == CELL.metric and "\x1b" not in (tmp_path / "one.json").read_text()
