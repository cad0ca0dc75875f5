"""The runner on a small made data set: what must not matter does not, and what must hold holds."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from eval import __main__ as command
from eval import bench_reprompt, cells, runner
from eval.datasets import Dataset, Query, datasets
from eval.tables import EXPERIMENTS, Experiment, Row
from foir.prompts import Prompt
from tests.conftest import scene

ROWS = (
    Row("cbir"),
    Row("phs", {"h_on": 6}),
    Row("phs", {"h_on": 2}),
    Row("phs", {"h_on": 6}, "query-db"),
    Row("phs", {"h_on": 2}, "query-db"),
    Row("foveal"),
    Row("foveal|phs", {"h_on": 6}),
    Row("mask"),
    Row("crop"),
)
SMALL = Experiment("small", "made", ("made",), ("toy",), ROWS, 5)


@pytest.fixture(scope="module")
def made():
    """24 pictures of 4 kinds, two prompts each, leave one out."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(24))
    labels = np.eye(4, dtype=bool)[np.arange(24) % 4] | np.eye(4, dtype=bool)[np.arange(24) // 6]
    queries = tuple(
        Query(i, Prompt.box(10 + i, 10, 70 + i, 80) if j else Prompt.box(60, 40, 150, 110), int(kind))
        for i in range(24)
        for j, kind in enumerate(np.flatnonzero(labels[i]))
    )
    return Dataset("made", pictures, labels, queries, pictures, ("a", "b", "c", "d"), leave_one_out=True)


@pytest.fixture(scope="module")
def table(made, toy):
    return runner.run(SMALL, made, toy)


def value(table, place):
    return [cell for cell in table if cell.metric == "MP@5"][place]


def test_every_row_has_a_value_with_its_interval(table):
    assert len(table) == 2 * len(ROWS) - 1
    for cell in table:
        assert cell.low <= cell.value <= cell.high
        assert cell.status == "ok"
        assert cell.seconds > 0


def test_all_heads_equal_the_row_without_phs(table):
    assert value(table, 1).value == value(table, 0).value == value(table, 3).value
    assert value(table, 6).value == value(table, 5).value
    assert [c.value for c in table if c.metric == "MP@5 minus cbir"][0] == 0


def test_nothing_depends_on_the_batch_size(made, toy, table, monkeypatch):
    monkeypatch.setattr(runner, "BATCH", 3)
    again = runner.run(SMALL, made, toy)
    for one, other in zip(table, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=0.6)  # near-ties may swap at the fifth place


def test_cbir_does_not_depend_on_the_prompt(made, toy, table):
    moved = tuple(Query(q.picture, Prompt.point(5, 5), q.category) for q in made.queries)
    other = Dataset(made.name, made.gallery, made.labels, moved, made.query_pictures, made.categories, True)
    (cell,) = runner.run(Experiment("one", "", (), (), ROWS[:1], 5), other, toy)
    assert cell.value == value(table, 0).value


def test_a_query_never_finds_itself():
    found = np.array([[3, 1, 2], [0, 1, 2], [4, 5, 0]])
    assert runner._without(found, np.array([3, 1, 9])).tolist() == [[1, 2], [0, 2], [4, 5]]


def test_the_ceiling_is_what_a_perfect_ranking_has():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], bool)
    queries = tuple(Query(i, Prompt.point(0, 0), int(k)) for i in range(4) for k in np.flatnonzero(labels[i]))
    alone = Dataset("x", (), labels, queries, (), ("a", "b"), leave_one_out=True)
    assert runner.ceiling(alone, 2) == pytest.approx(100 * (1 + 0.5) / 2)


def test_limit_keeps_the_whole_gallery(made, toy):
    (cell,) = runner.run(Experiment("one", "", (), (), ROWS[:1], 5), made, toy, limit=3)
    assert cell.n == sum(q.picture < 3 for q in made.queries)


def test_cells_are_written_as_json_and_as_a_table(table, tmp_path):
    cells.write(table, tmp_path / "cells.json")
    read = json.loads((tmp_path / "cells.json").read_text())
    assert len(read) == len(table)
    assert read[0]["metric"] == "MP@5"
    lines = cells.table(table).splitlines()
    assert len(lines) == len(table) + 2
    assert {line.replace(r"\|", "").count("|") for line in lines} == {9}


def test_reprompting_is_cheaper_than_encoding(toy):
    times = bench_reprompt.measure(toy, rounds=1)
    assert set(times) == {"full encode", *bench_reprompt.METHODS}
    assert all(ms > 0 for ms in times.values())


def test_every_experiment_names_known_data_sets():
    for experiment in EXPERIMENTS.values():
        assert set(experiment.datasets) <= set(datasets())


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


def test_coco_small_is_read_as_its_readme_says():
    folder = Path(os.environ.get("FOIR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "coco_small"
    if not folder.exists():
        pytest.skip(f"coco_small is not at {folder}")
    data = datasets()["coco_small"]()
    assert len(data.gallery) == 435
    assert len(data.categories) == 80
    assert len(data.queries) == 3281
    assert runner.ceiling(data, 10) == pytest.approx(79.6, abs=0.05)
    image = data.query_pictures[data.queries[0].picture]()
    assert not data.queries[0].prompt.fit(image.size).empty
