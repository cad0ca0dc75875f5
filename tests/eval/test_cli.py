"""The command line: errors are one line, results are written."""

import numpy as np
import pytest

from eval import cli as command
from eval.datasets import base
from eval.datasets.base import Dataset, Query
from foir.prompts import Prompt
from tests.conftest import scene


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
    monkeypatch.setitem(base.LOADERS, "small", (Dataset, lambda: small))
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
