"""Figures, splits by number of objects, and the report that puts ours beside published."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eval import cli as command
from eval.benchmarks import cost, query_db
from eval.datasets import Dataset, Query
from eval.experiments import dataset_stats, figures, phs, runner
from eval.experiments import registry
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import DatasetStats, Figure, PromptedRetrieval, Row
from eval.report import report
from eval.report import results as cells
from foir.index import Space
from foir.prompts import Prompt
from tests.conftest import scene


@pytest.fixture(scope="module")
def made():
    """Sixteen pictures; picture i has 1 + i % 3 prompts, and picture 15 has twelve."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(16))
    labels = np.eye(4, dtype=bool)[np.arange(16) % 4]
    queries = tuple(
        Query(i, Prompt.box(10 + 5 * j, 10, 60 + 5 * j, 60), int(np.flatnonzero(labels[i])[0]))
        for i in range(16)
        for j in range(12 if i == 15 else 1 + i % 3)
    )
    return Dataset("made", pictures, labels, queries, pictures, ("a", "b", "c", "d"), leave_one_out=True)


ROWS = (Row("cbir"), Row("phs", {"h_on": 2}))


@pytest.mark.parametrize(
    ("by", "names"), [("objects", ["1", "2", "3", "10+"]), ("at-least", [f"{i}+" for i in range(1, 11)])]
)
def test_a_split_has_a_cell_for_every_number_and_one_for_all(made, toy, tmp_path, by, names):
    found = PromptedRetrieval("split", "", (), (), ROWS, 5, by=by).measure(made, toy, RunContext(results=tmp_path))
    plain = [cell for cell in found if cell.method == "phs" and cell.metric == "MP@5"]
    assert [cell.options.get("objects") for cell in plain] == [None, *names]
    (whole,) = (c for c in PromptedRetrieval("all", "", (), (), ROWS[1:], 5).measure(made, toy, RunContext(results=tmp_path)) if c.n)
    assert plain[0].value == whole.value
    counts = {cell.options.get("objects"): cell.n for cell in plain}
    assert counts[None] == len(made.queries)
    if by == "objects":
        assert sum(counts[name] for name in names) == len(made.queries)
        assert counts["10+"] == 12
    else:
        assert counts["1+"] == len(made.queries) and counts["4+"] == counts["10+"] == 12
    for cell in found:
        assert cell.value is not None and cell.low is not None and cell.high is not None
        assert cell.low <= cell.value <= cell.high or cell.n == 12  # one picture alone has no spread


def test_counting_gives_shares_of_pictures(made):
    found = DatasetStats("c", "", ()).measure(made, None, RunContext())
    shares = {cell.options["objects"]: cell.value for cell in found}
    assert shares["1"] == pytest.approx(100 * 5 / 16) and shares["12"] == pytest.approx(100 / 16)
    assert sum(share or 0 for share in shares.values()) == pytest.approx(100)
    assert all(cell.n == 16 for cell in found)


@pytest.mark.parametrize("what", list(figures.FIGURES))
def test_every_figure_is_drawn(made, toy, tmp_path, what):
    sheet = figures.draw(what, made, toy, ResultsCache(tmp_path), limit=2)
    columns = {"attention": 4, "more_attention": 4, "heads": 7, "selected": 2, "context": 6}[what]
    assert isinstance(sheet, Image.Image)
    assert sheet.width > columns * 200
    assert sheet.height > (8 if what == "context" else 2) * 200
    assert np.asarray(sheet).std() > 20


def test_figures_name_functions_that_are_there():
    named = {experiment.what for experiment in EXPERIMENTS.values() if isinstance(experiment, Figure)}
    assert named == set(figures.FIGURES)


def test_all_figures_and_tables_of_the_paper_have_a_name():
    wanted = {f"phs-table{n}" for n in ("1", "2", "3", "4", *(f"A{i}" for i in range(1, 8)))}
    wanted |= {f"phs-fig{n}" for n in (3, 4, 5, 6, 7, 8, "A1", "A2", "A3", "A4", "A5")}
    assert wanted <= set(EXPERIMENTS)


@pytest.fixture
def results(made, toy, tmp_path):
    table = replace(next(e for e in phs.EXPERIMENTS if e.name == "phs-table1"), k=5)
    found = table.measure(made, toy, RunContext(results=tmp_path / "kept"))
    found = [replace(c, published=50.0) if c.metric == "MP@5" else c for c in found]
    cells.write(found, tmp_path / "cells" / "phs-table1-made-toy.json")
    return tmp_path


def test_the_report_puts_ours_beside_published(results):
    text = report.report(results).read_text()
    assert "## phs-table1" in text and "Revisions: toy encoder=seed-7 data=" in text
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


def test_what_runs_is_kept_for_the_report(tmp_path, monkeypatch, capsys):
    from eval import datasets

    pictures = tuple((lambda i=i: scene(i)) for i in range(4))
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    queries = tuple(Query(i, Prompt.box(5, 5, 70, 60), i // 2) for i in range(4))
    small = Dataset("small", pictures, labels, queries, pictures, ("a", "b"), leave_one_out=True)
    monkeypatch.setattr(datasets, "read", lambda name: small)
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


def test_the_query_db_bench_measures_recall(toy):
    rng = np.random.default_rng(0)
    z, residual = rng.normal(size=(60, 6, 8)).astype(np.float16), rng.normal(size=(60, 48)).astype(np.float16)
    space = query_db.repeated(Space("toy", "x", np.empty(0), (), (z,), (residual,)), 130)
    assert sum(map(len, space.z)) == sum(map(len, space.shards)) == 130
    recall, times = query_db.measure(toy, space, 2)
    assert recall == 1 and all(seconds > 0 for seconds in times.values())


def test_the_cost_bench_counts_what_each_method_runs(toy):
    picture, masked, made, rate = cost.counted(toy, ["mask"])
    assert masked == picture > 0 and rate > 0 and made.z.shape[0] == 1
    _, plain, _, _ = cost.counted(toy, ["cbir"])
    _, both, _, _ = cost.counted(toy, ["mask", "phs"])
    assert plain < picture / 4
    assert picture < both < 1.25 * picture
