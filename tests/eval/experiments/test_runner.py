"""The runner on a small made data set: what must not matter does not, and what must hold holds."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from eval import cli as command
from eval import datasets
from eval.benchmarks import reprompt
from eval.datasets import CaptionedDataset, ClassificationDataset, Dataset, InstanceDataset, Query
from eval.experiments import gallery, phs, pointing, runner
from eval.experiments import registry
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import Captioning, Clustering, PromptedRetrieval, InstanceRetrieval, QueryPerturbation, ProposalRecall, TextRetrieval, Row
from eval.metrics import ranking
from eval.report import published, results
from foir.encoders.intervention import HeadGate
from foir.patches import rasterise
from foir.prompts import Prompt
from foir.ranking import exact, head_cache
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
    Row("crop|phs", {"h_on": 6}),
)
SMALL = PromptedRetrieval("small", "made", ("made",), ("toy",), ROWS, 5)


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
def table(made, toy, tmp_path_factory):
    return SMALL.measure(made, toy, RunContext(results=tmp_path_factory.mktemp("kept")))


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
    assert value(table, 9).value == value(table, 8).value
    assert [c.value for c in table if c.metric == "MP@5 minus cbir"][0] == 0


def test_nothing_depends_on_batches_and_chunks(made, toy, table, monkeypatch, tmp_path):
    for module, name, size in (
        (runner, "BATCH", 3),
        (runner, "CHUNK", 5),
        (ranking, "QUERIES", 7),
        (gallery, "BATCH", 5),
    ):
        monkeypatch.setattr(module, name, size)
    again = SMALL.measure(made, toy, RunContext(results=tmp_path))
    for one, other in zip(table, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=0.6)  # near-ties may swap at the fifth place


def test_cbir_does_not_depend_on_the_prompt(made, toy, table, tmp_path):
    moved = tuple(Query(q.picture, Prompt.point(5, 5), q.category) for q in made.queries)
    other = Dataset(made.name, made.gallery, made.labels, moved, made.query_pictures, made.categories, True)
    (cell,) = PromptedRetrieval("one", "", (), (), ROWS[:1], 5).measure(other, toy, RunContext(results=tmp_path))
    assert cell.value == value(table, 0).value


def test_a_query_never_finds_itself():
    found = np.array([[3, 1, 2], [0, 1, 2], [4, 5, 0]])
    assert runner._without(found, np.array([3, 1, 9])).tolist() == [[1, 2], [0, 2], [4, 5]]


def test_the_ceiling_is_what_a_perfect_ranking_has():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], bool)
    queries = tuple(Query(i, Prompt.point(0, 0), int(k)) for i in range(4) for k in np.flatnonzero(labels[i]))
    alone = Dataset("x", (), labels, queries, (), ("a", "b"), leave_one_out=True)
    assert runner.ceiling(alone, 2) == pytest.approx(100 * (1 + 0.5) / 2)


def test_limit_keeps_the_whole_gallery(made, toy, tmp_path):
    (cell,) = PromptedRetrieval("one", "", (), (), ROWS[:1], 5).measure(made, toy, RunContext(results=tmp_path, limit=3))
    assert cell.n == sum(q.picture < 3 for q in made.queries)


def test_cells_are_written_as_json_and_as_a_table(table, tmp_path):
    results.write(table, tmp_path / "cells.json")
    read = json.loads((tmp_path / "cells.json").read_text())
    assert len(read) == len(table)
    assert read[0]["metric"] == "MP@5"
    lines = results.table(table).splitlines()
    assert len(lines) == len(table) + 2
    assert {line.replace(r"\|", "").count("|") for line in lines} == {9}


def test_reprompting_is_cheaper_than_encoding(toy):
    times = reprompt.measure(toy, rounds=1)
    assert set(times) == {"full encode", *reprompt.METHODS}
    assert all(ms > 0 for ms in times.values())


def test_every_experiment_names_known_data_sets():
    kinds = {CaptionedDataset: TextRetrieval | Captioning | QueryPerturbation | ProposalRecall, ClassificationDataset: Clustering, InstanceDataset: InstanceRetrieval}
    for experiment in EXPERIMENTS.values():
        kind = next((kind for kind, those in kinds.items() if isinstance(experiment, those)), Dataset)
        assert set(experiment.datasets) <= set(datasets.names(kind))


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
    folder = Path(os.environ.get("FOIR_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco_small"
    if not folder.exists():
        pytest.skip(f"coco_small is not at {folder}")
    data = datasets.load("coco_small", Dataset)
    assert len(data.gallery) == 435
    assert len(data.categories) == 80
    assert len(data.queries) == 3281
    assert runner.ceiling(data, 10) == pytest.approx(79.6, abs=0.05)
    image = data.query_images[data.queries[0].image]()
    assert not data.queries[0].prompt.fit(image.size).empty


def masked(made):
    """The made data set with a round mask for each query."""

    def disc(i):
        y, x = np.mgrid[:120, :160]
        return (x - 60 - i) ** 2 + (y - 60) ** 2 < 40**2

    queries = tuple(replace(q, mask=lambda i=i: disc(i % 20)) for i, q in enumerate(made.queries))
    return Dataset("masked", made.gallery, made.labels, queries, made.query_pictures, made.categories, True)


def test_a_killed_run_goes_on_where_it_was(made, toy, table, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CHUNK", 6)
    store, calls = ResultsCache(tmp_path), []
    look = runner.look

    def dying(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return look(*args)

    monkeypatch.setattr(runner, "look", dying)
    with pytest.raises(KeyboardInterrupt):
        SMALL.measure(made, toy, RunContext(results=tmp_path))
    encoded = []
    monkeypatch.setattr(gallery, "_encoded", lambda *args: encoded.append(1))
    again = SMALL.measure(made, toy, RunContext(results=tmp_path))
    assert len(calls) == 5 and not encoded  # two chunks of four were kept, and the gallery
    for one, other in zip(table, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=0.6)


def test_what_is_kept_is_not_taken_for_something_else(made, toy, tmp_path):
    store = ResultsCache(tmp_path)
    first = PromptedRetrieval("one", "", (), (), (Row("phs", {"h_on": 2}),), 5).measure(made, toy, RunContext(results=tmp_path))
    for change in (Row("phs", {"h_on": 3}), Row("phs", {"h_on": 2, "roi": "max"}), Row("phs", {"h_on": 2}, "query-db")):
        before = len(list(tmp_path.iterdir()))
        PromptedRetrieval("one", "", (), (), (change,), 5).measure(made, toy, RunContext(results=tmp_path))
        assert len(list(tmp_path.iterdir())) == before + 1
    again = PromptedRetrieval("two", "", (), (), (Row("phs", {"h_on": 2}),), 5).measure(made, toy, RunContext(results=tmp_path))
    assert again[0].value == first[0].value and again[0].seconds == first[0].seconds


def test_a_damaged_kept_file_is_made_again(tmp_path):
    store, made = ResultsCache(tmp_path), []

    def make():
        made.append(1)
        return {"a": np.arange(3)}

    store.get(["x"], make)
    (file,) = tmp_path.iterdir()
    for data in (file.read_bytes()[:-20], b"", b"nothing"):
        file.write_bytes(data)
        assert store.get(["x"], make)["a"].tolist() == [0, 1, 2]
    assert store.get(["x"], make)["a"].tolist() == [0, 1, 2] and len(made) == 4


@pytest.mark.parametrize("mode", ["query", "query-db"])
def test_ranking_on_the_device_equals_the_index(made, toy, tmp_path, mode, monkeypatch):
    monkeypatch.setattr(ranking, "QUERIES", 3)
    kept = gallery.gallery(toy, made, ResultsCache(tmp_path))
    vectors = np.concatenate(kept.shards)[:8] + 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gates = [HeadGate(tuple(2.0 * ((i + j) % 2) for j in range(6))) for i in range(8)]
    rows = ranking.rank(toy, kept, mode, gates, vectors, 6)
    if mode == "query":
        expected = exact.search(kept.shards, vectors, 6).rows
    else:
        expected = head_cache.search(toy, kept, gates, vectors, 6).rows
    np.testing.assert_array_equal(rows, expected)


def test_equal_scores_come_in_row_order():
    same = np.ones((9, 2), np.float32)
    blocks = [same[:4], same[4:]]
    assert ranking.nearest(blocks, same[:1], 9, "cpu").tolist() == [list(range(9))]


def test_points_stand_for_every_patch_on_the_object(made, toy):
    query = masked(made).queries[0]
    found = pointing.query_prompts(query, 0, (160, 120), toy.grid, prompt="point")
    inside = rasterise(Prompt(mask=query.mask()).fit((160, 120)), (160, 120), toy.grid, rule="center").patches
    assert len(found) == inside.sum() > 4
    for (_, mask), (row, col) in zip(found, np.argwhere(inside), strict=True):
        window = np.zeros(toy.grid, bool)
        window[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = True
        np.testing.assert_array_equal(mask.patches, window)


def test_an_outline_is_the_mask_and_a_box_needs_none(made, toy):
    query = masked(made).queries[3]
    ((prompt, mask),) = pointing.query_prompts(query, 3, (160, 120), toy.grid, prompt="segment")
    np.testing.assert_array_equal(mask.pixels, query.mask())
    assert not prompt.only_boxes
    assert pointing.query_prompts(made.queries[3], 3, (160, 120), toy.grid, prompt="segment") == []
    assert len(pointing.query_prompts(made.queries[3], 3, (160, 120), toy.grid)) == 1


def test_a_careless_hand_moves_and_grows_the_box_as_the_paper_says():
    """A9, A10: x0' = x0 + c - l and x1' = x1 + c + l, so the centre moves by c and the half width grows by l."""
    box = Prompt.box(200, 150, 300, 260)
    drawn = np.array([pointing.jittered_box(box, 40, number, 0).boxes[0] for number in range(400)])
    move = (drawn[:, 0] + drawn[:, 2]) / 2 - 250
    grow = (drawn[:, 2] - drawn[:, 0]) / 2 - 50
    assert set(move) <= set(range(-40, 41)) and set(grow) <= set(range(-40, 41))
    assert {move.min(), move.max(), grow.min(), grow.max()} == {-40, 40}
    assert abs(move.mean()) < 5 and abs(grow.mean()) < 5 and abs(np.corrcoef(move, grow)[0, 1]) < 0.15
    again, other = pointing.jittered_box(box, 40, 7, 1), pointing.jittered_box(box, 40, 7, 2)
    assert pointing.jittered_box(box, 40, 7, 1).boxes == again.boxes != other.boxes


def test_a_box_that_noise_turns_or_pushes_out_is_still_a_box(toy):
    tiny = Query(0, Prompt.box(2, 2, 5, 5), 0)
    for number in range(60):
        for prompt, mask in pointing.query_prompts(tiny, number, (160, 120), toy.grid, noise=40):
            x0, y0, x1, y1 = prompt.boxes[0]
            assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 120
            assert mask.patches.any()


def test_all_ways_of_pointing_run_where_there_are_masks_and_say_so_where_not(made, toy, tmp_path):
    rows = (
        Row("cbir"),
        *(Row(method, prompt=prompt) for method in ("mask", "phs") for prompt in ("point", "box", "segment")),
        Row("phs", noise=40),
        Row("phs", {"h_on": 9}),
    )
    rows = tuple(replace(row, options={"h_on": 2}) if row.method == "phs" and not row.options else row for row in rows)
    small = PromptedRetrieval("ways", "", (), (), rows, 5, ("MP", "MAP"))
    with_masks = small.measure(masked(made), toy, RunContext(results=tmp_path, limit=4))
    without = small.measure(made, toy, RunContext(results=tmp_path, limit=4))
    for cells_, run in ((with_masks, {"box", "segment", "point"}), (without, {"box"})):
        for cell in cells_:
            can = cell.options["prompt"] in run and cell.options.get("h_on") != 9
            assert (cell.status, cell.value is None) == (("ok", False) if can else ("not_run", True))
    assert {cell.metric for cell in with_masks} == {"MP@5", "MAP@5", "MP@5 minus cbir", "MAP@5 minus cbir"}


def test_published_values_stand_only_beside_what_the_paper_measured():
    assert published.value("phs", "1", "coco", "dinov2-base-reg", ("CBIR", ""), "MP@100") == 57.4
    assert published.value("phs", "1", "coco_small", "dinov2-base-reg", ("CBIR", ""), "MP@100") is None
    assert published.value("phs", "1", "coco", "mini", ("CBIR", ""), "MP@100") is None
    assert published.value("phs", "A2", "visual_genome", "dinov2-giant-reg", ("PHS", "query-db"), "MP@100") == 30.0


def test_every_published_value_of_a_table_has_its_row():
    """No number of the paper's tables is left without a cell to stand beside."""
    asked = set()
    for experiment in phs.EXPERIMENTS:
        for dataset, name in product(experiment.datasets, experiment.encoders):
            for row, metric in product(experiment.rows, experiment.metrics):
                at_k = f"{metric}@{experiment.k}"
                if (
                    row.published
                    and published.value("phs", experiment.table, dataset, name, row.published, at_k) is not None
                ):
                    label = (published.DATASETS[dataset], *published.ENCODERS[name], *row.published)
                    asked.add(("phs", experiment.table, *label, at_k))
    tables = {experiment.table for experiment in phs.EXPERIMENTS}
    assert {"1", "2", "3", "4", *(f"A{i}" for i in range(1, 8))} <= tables
    assert asked == {key for key in published._all() if key[0] == "phs"}


def test_a_cell_carries_the_papers_value(toy, made, tmp_path, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "COCO")
    monkeypatch.setitem(published.ENCODERS, "toy", ("DINOv2", "base"))
    table1 = next(e for e in phs.EXPERIMENTS if e.name == "phs-table1")
    found = replace(table1, rows=table1.rows[:1]).measure(made, toy, RunContext(results=tmp_path, limit=2))
    assert [(c.metric, c.published) for c in found] == [("MP@100", 57.4), ("MAP@100", 61.5)]
