"""Recall under query perturbation against slow readings."""

from dataclasses import replace

import numpy as np
import pytest

from eval.cli import main
from eval.datasets import registry as data_registry
from eval.datasets.base import CaptionedDataset
from eval.experiments import registry, text_ranking
from eval.experiments.query_perturbation import QueryPerturbation
from eval.experiments.specs import Row, RunContext
from eval.metrics.recall import image_ranks, text_ranks
from eval.report.results import read

ROWS = (
    Row("plain"),
    Row("qpert", {"boxes": "annotated", "strength": 0}),
    Row("qpert", {"boxes": "annotated", "strength": 5, "weight": "1-S"}),
    Row("oes", {"boxes": "annotated"}),
    Row("qpert", {"boxes": "detected"}),
    Row("SCAN", published=("SCAN", "")),
)


TABLE = QueryPerturbation("made", "made", ("made",), ("toy-words",), ROWS, (1, 5))


def value_of(cells, method, metric, **options):
    (found,) = [
        c.value for c in cells
        if c.method == method and c.metric == metric and options.items() <= c.options.items()
        and ("bin" in options or "bin" not in c.options)
    ]  # fmt: skip
    return found


def test_the_runner_says_what_slow_code_says(captioned, speaking):
    cells = TABLE.measure(captioned, speaking, RunContext())
    words = speaking.encode_texts([text for said in captioned.captions for text in said]).vectors
    owner = np.repeat(np.arange(6), 2)
    plain = np.stack(
        [speaking.image_vectors(speaking.encode_images([load()]))[0, 0].numpy() for load in captioned.images]
    )
    for method, by_text in (("plain", words @ plain.T),):
        ranks = text_ranks(by_text, owner)
        slow = [sorted(range(6), key=lambda j: -by_text[t, j]).index(owner[t]) for t in range(12)]
        assert ranks.tolist() == slow
        assert value_of(cells, method, "R@1", direction="t2i") == pytest.approx(100 * np.mean(ranks < 1))
        back = image_ranks(by_text, owner)
        assert value_of(cells, method, "R@5", direction="i2t") == pytest.approx(100 * np.mean(back < 5))
    for direction in ("t2i", "i2t"):  # a strength of 0 is the plain row
        for metric in ("R@1", "mR@5"):
            same = value_of(cells, "qpert", metric, direction=direction, strength=0)
            assert same == value_of(cells, "plain", metric, direction=direction)
    assert {c.status for c in cells if c.options.get("boxes") == "detected"} == {"not_run"}
    assert not [c for c in cells if c.method == "SCAN"]  # published for other data sets only
    bins = {c.options["bin"] for c in cells if "bin" in c.options}
    assert "0-10%" in bins and len(bins) > 2
    assert any(c.metric == "R@1 minus plain" and c.method == "oes" for c in cells)


def test_every_number_of_the_released_codes_mode_says_what_it_depends_on(captioned, speaking):
    rows = (ROWS[0], Row("qpert", {"boxes": "annotated", "mode": "legacy", "strength": 1.0}))
    cells = replace(TABLE, rows=rows, ks=(1,)).measure(captioned, speaking, RunContext())
    notes = {(c.method, c.options.get("note")) for c in cells}
    assert notes == {("plain", None), ("qpert", "depends on the arbitrary signs of eigenvectors")}


def test_numbers_with_detected_boxes_name_the_detector(captioned, speaking):
    """The paper's is CO-DINO; a reader must see which one is ours."""
    boxes = {**captioned.boxes, "detected": captioned.boxes["annotated"]}
    data = replace(captioned, boxes=boxes, detector="owner/detr@abc")
    cells = replace(TABLE, rows=(ROWS[0], ROWS[4]), ks=(1,)).measure(data, speaking, RunContext())
    assert {(c.method, c.options.get("detector")) for c in cells} == {("plain", None), ("qpert", "owner/detr@abc")}


def test_a_grid_names_its_best(captioned, speaking):
    grid = replace(TABLE, rows=ROWS[:3], ks=(1,), best_of_grid=True)
    cells = grid.measure(captioned, speaking, RunContext())
    values = [c.value for c in cells if c.metric == "mR@1" and c.method == "qpert" and c.options["direction"] == "t2i"]
    (best,) = [c for c in cells if c.metric == "mR@1, best of the grid"]
    assert len(values) == 2 and best.value == max(value for value in values if value is not None)


def test_rows_that_memory_cannot_hold_at_once_say_the_same(captioned, speaking, monkeypatch):
    together = TABLE.measure(captioned, speaking, RunContext())
    monkeypatch.setattr(text_ranking, "MEMORY", 1)
    assert [c.value for c in TABLE.measure(captioned, speaking, RunContext())] == [c.value for c in together]


def test_differences_are_to_the_first_row_that_was_measured(captioned, speaking):
    cells = replace(TABLE, rows=(ROWS[-1], *ROWS[:3])).measure(captioned, speaking, RunContext())
    assert {c.metric.partition(" minus ")[2] for c in cells if "minus" in c.metric} == {"plain"}


def test_the_command_line_runs_it(captioned, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(data_registry.LOADERS, "made", (CaptionedDataset, lambda: captioned))
    out = tmp_path / "cells.json"
    monkeypatch.setitem(registry(), "made", replace(TABLE, rows=ROWS[:1]))
    assert main(["run", "made", "--device", "cpu", "--results", str(tmp_path), "--limit", "3", "--json", str(out)]) == 0
    assert {c.n for c in read(out) if c.metric == "R@1" and "bin" not in c.options} == {3, 6}


def test_a_box_that_is_not_on_its_image_is_left_out_and_counted(captioned, speaking, capsys):
    odd = ((900, 0, 990, 9), (float("nan"), 0, 9, 9))
    boxes = {"annotated": tuple(some + odd for some in captioned.boxes["annotated"])}
    found, plain = (
        TABLE.measure(data, speaking, RunContext()) for data in (replace(captioned, boxes=boxes), captioned)
    )
    assert [(cell.metric, cell.options, cell.value, cell.n) for cell in found] == [
        (cell.metric, cell.options, cell.value, cell.n) for cell in plain
    ]
    assert {tuple(cell.oddities.values()) for cell in found} == {(12,)} and not plain[0].oddities
    assert "made: boxes outside their images or not of numbers: 12." in capsys.readouterr().out
