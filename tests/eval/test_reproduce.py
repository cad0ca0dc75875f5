"""`reproduce`: what is ready runs, is resumed and reported; what is not is reported with its reason."""

import json
from dataclasses import replace

import pytest

from eval import cli as command
from eval.experiments import phs, registry
from eval.experiments.instance_retrieval import InstanceRetrieval
from eval.experiments.prompted_retrieval import PromptedRetrieval
from tests.eval.datasets.test_voc import voc

__all__ = ["voc"]


@pytest.fixture
def measured(voc, root, monkeypatch):
    """PHS Table 1 on a miniature VOC with two toys; the encoders that were measured, and what each does first."""
    table = replace(phs.TABLE1, datasets=("voc",), encoders=("toy", "toy-words"), k=1)
    monkeypatch.setitem(registry(), "phs-table1", table)
    names: list[str] = []
    first: dict[str, BaseException] = {}
    measure = PromptedRetrieval.measure

    def counted(self, data, encoder, context):
        if encoder.name in first:
            raise first.pop(encoder.name)
        names.append(encoder.name)
        return measure(self, data, encoder, context)

    monkeypatch.setattr(PromptedRetrieval, "measure", counted)
    return names, first


def reproduce(root, *tables):
    return command.main(["reproduce", *tables, "--device", "cpu", "--results", str(root / "results")])


def test_what_is_finished_survives_an_interruption(measured, root, capsys):
    names, first = measured
    first["toy-words"] = KeyboardInterrupt()
    assert reproduce(root, "phs-table1") == 1
    assert "1 of 2 runs are not complete" in capsys.readouterr().err
    report = root / "results" / "report.md"
    assert "- voc: ready, 1 of 4,952 query images, " in report.read_text()
    assert "| voc | toy | phs |" in report.read_text()
    assert "| phs-table1 | voc | toy-words | interrupted |" in report.read_text()
    assert reproduce(root, "phs-table1") == 0
    assert names == ["toy", "toy-words"]  # the first is not measured again
    assert "| voc | toy-words | phs |" in report.read_text() and "## Not run" not in report.read_text()
    assert "phs-table1 on voc with toy-words" in capsys.readouterr().out


def test_a_failure_is_one_sentence_and_the_next_one_runs(measured, root, capsys):
    names, first = measured
    first["toy"] = RuntimeError("out of memory\nand a long dump")
    assert reproduce(root, "phs-table1") == 1
    assert names == ["toy-words"]
    assert "Not run: it failed, RuntimeError: out of memory\n" in capsys.readouterr().out
    assert "| phs-table1 | voc | toy | it failed, RuntimeError: out of memory |" in (
        (root / "results" / "report.md").read_text()
    )


def test_what_is_missing_is_in_the_report(measured, root, capsys):
    (root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "trainval.txt").unlink()
    assert reproduce(root, "phs-table1", "phs-fig3") == 1
    text = (root / "results" / "report.md").read_text()
    assert "| phs-table1 | voc | toy | missing: data (VOCdevkit/VOC2012/ImageSets/Main/trainval.txt) |" in text
    assert measured[0] == [] and "phs-fig3" in text


@pytest.mark.parametrize("change", ["revision", "data", "older foir", "other dtype", "cells"])
def test_a_run_is_measured_again_when_what_it_measured_has_changed(measured, root, change):
    assert reproduce(root, "phs-table1") == 0
    path = root / "results" / "cells" / "phs-table1-voc-toy.json"
    listing = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "trainval.txt"
    if change in ("older foir", "other dtype"):
        cells = json.loads(path.read_text())
        old = {"format": "2"} if change == "older foir" else {"dtype": "bfloat16"}
        path.write_text(json.dumps([{**cell, "revisions": {**cell["revisions"], **old}} for cell in cells]))
    elif change == "cells":
        path.write_text("[{")
    elif change == "data":
        listing.write_text(listing.read_text() * 2)
    else:
        cells = json.loads(path.read_text())
        path.write_text(json.dumps([{**cell, "revisions": {**cell["revisions"], "data": "another"}} for cell in cells]))
    assert reproduce(root, "phs-table1") == 0
    assert measured[0].count("toy") == 2


def test_fine_tuned_rows_run_with_their_adapter(root, monkeypatch, capsys):
    adapter = root / "results" / "adapters" / "mini.safetensors"
    runs = []

    def run(self, data, encoder, context):
        runs.append(context)
        return []

    monkeypatch.setattr(InstanceRetrieval, "run", run)
    assert reproduce(root, "needles-playroom") == 1
    assert [context.adapter for context in runs] == [None]
    assert "mini.safetensors" in capsys.readouterr().out
    adapter.parent.mkdir()
    adapter.write_bytes(b"")
    assert reproduce(root, "needles-playroom") == 0
    assert [context.adapter for context in runs] == [None, adapter]  # the first is finished
