"""Cells are written as JSON and as a table."""

import json

import numpy as np

from eval.experiments.prompted_retrieval import PromptedRetrieval
from eval.experiments.specs import Row, RunContext
from eval.metrics.retrieval import mean_of
from eval.report import results


def test_cells_are_written_as_json_and_as_a_table(made, toy, tmp_path):
    rows = (Row("cbir"), Row("foveal|phs", {"h_on": 2}))
    table = PromptedRetrieval("small", "", (), (), rows, 5).measure(made, toy, RunContext(results=tmp_path))
    results.write(table, tmp_path / "cells.json")
    read = json.loads((tmp_path / "cells.json").read_text())
    assert len(read) == len(table)
    assert read[0]["metric"] == "MP@5"
    lines = results.table(table).splitlines()
    assert len(lines) == len(table) + 2
    assert {line.replace(r"\|", "").count("|") for line in lines} == {10}


def test_a_count_is_whole_and_what_has_no_unit_has_two_places():
    builder = results.CellBuilder("e", "d", "m", {}, unit="")
    assert results.format_value(builder.value("gallery images", 118287.0)) == ("118287", "")
    correlation = mean_of(0.8, np.full(10, 0.8))
    assert results.format_value(builder.using(scale=1).value("Spearman", correlation)) == ("0.80", "0.80 to 0.80")
    assert results.format_value(builder.using(unit="%").value("MP", 12.0)) == ("12.0", "")
