"""The report compares results with published values."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from eval import cli as command
from eval.experiments import phs
from eval.experiments.specs import RunContext
from eval.report import report
from eval.report import results as cells


@pytest.fixture
def results(crowded, toy, tmp_path):
    table = replace(phs.TABLE1, k=5)
    found = table.measure(crowded, toy, RunContext(results=tmp_path / "kept"))
    found = [replace(c, published=50.0) if c.metric == "MP@5" else c for c in found]
    cells.write(found, tmp_path / "cells" / "phs-table1-crowded-toy.json")
    return tmp_path


def test_the_report_puts_ours_beside_published(results):
    text = report.report(results).read_text()
    assert "## phs-table1" in text and "Revisions: toy encoder=seed-7" in text
    lines = [line for line in text.splitlines() if line.startswith("| made | toy | phs |")]
    fields = [field.strip() for field in lines[0].split("|")[1:-1]]
    assert fields[3] == "h_on=5, prompt=box" and fields[4] == "MP@5" and fields[7] == "50.0"
    assert float(fields[8]) == pytest.approx(float(fields[5]) - 50, abs=0.11)
    assert "Not measured here: dinov2-small-reg on coco" in text
    assert len(json.loads((results / "report.json").read_text())) == text.count("| made | toy |")
    with Image.open(results / "phs-table1.png") as chart:
        assert chart.width > 600


def test_a_report_of_nothing_is_still_a_report(tmp_path, capsys):
    assert command.main(["report", "--results", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text().startswith("# What was measured")
