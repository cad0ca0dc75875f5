"""Cells of the PHS tables stand beside the paper's values."""

from dataclasses import replace

from eval.experiments import dataset_stats, phs
from eval.experiments.specs import RunContext
from eval.report import published


def test_a_cell_carries_the_papers_value(toy, made, tmp_path, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "COCO")
    monkeypatch.setitem(published.ENCODERS, "toy", ("DINOv2", "base"))
    table1 = phs.TABLE1
    found = replace(table1, rows=table1.rows[:1]).measure(made, toy, RunContext(results=tmp_path, limit=2))
    assert [(c.metric, c.published) for c in found] == [("MP@100", 57.4), ("MAP@100", 61.5)]


def test_settings_are_the_papers():
    values = published.all_values()
    assert phs.HEADS["h_on"] == values["phs", "Sec4.1", "all", "", "", "PHS", "", "h_on"]
    assert values["phs", "SecA3", "all", "", "", "noise", "m", "pixels"] == dataset_stats.NOISE
