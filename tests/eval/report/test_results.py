"""Cells are written as JSON and as a table."""

import json

from eval.experiments.prompted_retrieval import PromptedRetrieval
from eval.experiments.specs import Row, RunContext
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
