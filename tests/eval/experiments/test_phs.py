"""Every published value of the PHS paper has its row."""

from dataclasses import replace
from itertools import product

from eval.experiments import phs
from eval.experiments.prompted_retrieval import PromptedRetrieval
from eval.experiments.specs import RunContext
from eval.report import published

TABLES = [experiment for experiment in phs.EXPERIMENTS if isinstance(experiment, PromptedRetrieval)]


def test_every_published_value_of_a_table_has_its_row():
    """No number of the paper's tables is left without a cell to stand beside."""
    asked = set()
    for experiment in TABLES:
        for dataset, name in product(experiment.datasets, experiment.encoders):
            for row, metric in product(experiment.rows, experiment.metrics):
                at_k = f"{metric}@{experiment.k}"
                if (
                    row.published
                    and published.value("phs", experiment.table, dataset, name, row.published, at_k) is not None
                ):
                    label = (published.DATASETS[dataset], *published.ENCODERS[name], *row.published)
                    asked.add(("phs", experiment.table, *label, at_k))
    tables = {experiment.table for experiment in TABLES}
    assert {"1", "2", "3", "4", *(f"A{i}" for i in range(1, 8))} <= tables
    facts = {key for key in published.all_values() if key[1].startswith("Sec")}  # of the text, not of a table
    assert asked == {key for key in published.all_values() if key[0] == "phs"} - facts


def test_a_cell_carries_the_papers_value(toy, made, tmp_path, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "COCO")
    monkeypatch.setitem(published.ENCODERS, "toy", ("DINOv2", "base"))
    table1 = phs.TABLE1
    found = replace(table1, rows=table1.rows[:1]).measure(made, toy, RunContext(results=tmp_path, limit=2))
    assert [(c.metric, c.published) for c in found] == [("MP@100", 57.4), ("MAP@100", 61.5)]
