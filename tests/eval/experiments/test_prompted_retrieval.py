"""Prompted retrieval on a small data set: chunks, caches, groups and prompts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.datasets.base import Dataset, Query
from eval.experiments import gallery, phs, prompted_retrieval, query_features
from eval.experiments.prompted_retrieval import PromptedRetrieval
from eval.experiments.specs import Row, RunContext
from eval.metrics import ranking
from eval.report import published
from foir import Unavailable
from foir.prompts import Prompt

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
        (query_features, "BATCH", 3),
        (prompted_retrieval, "CHUNK", 5),
        (ranking, "QUERIES", 7),
        (gallery, "BATCH", 5),
    ):
        monkeypatch.setattr(module, name, size)
    again = SMALL.measure(made, toy, RunContext(results=tmp_path))
    for one, other in zip(table, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=0.6)  # near-ties may swap at the fifth place


def test_cbir_does_not_depend_on_the_prompt(made, toy, table, tmp_path):
    moved = tuple(Query(q.image, Prompt.point(5, 5), q.category) for q in made.queries)
    other = Dataset(made.name, made.gallery, made.labels, moved, made.query_images, made.categories, True)
    (cell,) = PromptedRetrieval("one", "", (), (), ROWS[:1], 5).measure(other, toy, RunContext(results=tmp_path))
    assert cell.value == value(table, 0).value


def test_a_query_never_finds_itself():
    found = np.array([[3, 1, 2], [0, 1, 2], [4, 5, 0]])
    assert prompted_retrieval._drop_self(found, np.array([3, 1, 9])).tolist() == [[1, 2], [0, 2], [4, 5]]


def test_the_ceiling_is_what_a_perfect_ranking_has():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], bool)
    queries = tuple(Query(i, Prompt.point(0, 0), int(k)) for i in range(4) for k in np.flatnonzero(labels[i]))
    alone = Dataset("x", (), labels, queries, (), ("a", "b"), leave_one_out=True)
    assert prompted_retrieval.perfect_precision(alone, 2) == pytest.approx(100 * (1 + 0.5) / 2)


def test_limit_keeps_the_whole_gallery(made, toy, tmp_path):
    (cell,) = PromptedRetrieval("one", "", (), (), ROWS[:1], 5).measure(
        made, toy, RunContext(results=tmp_path, limit=3)
    )
    assert cell.n == sum(q.image < 3 for q in made.queries)


def test_a_killed_run_goes_on_where_it_was(made, toy, table, tmp_path, monkeypatch):
    monkeypatch.setattr(prompted_retrieval, "CHUNK", 6)
    calls = []
    look = query_features.query_features

    def dying(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return look(*args)

    monkeypatch.setattr(prompted_retrieval, "query_features", dying)
    with pytest.raises(KeyboardInterrupt):
        SMALL.measure(made, toy, RunContext(results=tmp_path))
    encoded = []
    monkeypatch.setattr(gallery, "_encode", lambda *args: encoded.append(1))
    again = SMALL.measure(made, toy, RunContext(results=tmp_path))
    assert len(calls) == 5 and not encoded  # two chunks of four were kept, and the gallery
    for one, other in zip(table, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=0.6)


def test_what_is_kept_is_not_taken_for_something_else(made, toy, tmp_path):
    first = PromptedRetrieval("one", "", (), (), (Row("phs", {"h_on": 2}),), 5).measure(
        made, toy, RunContext(results=tmp_path)
    )
    for change in (Row("phs", {"h_on": 3}), Row("phs", {"h_on": 2, "roi": "max"}), Row("phs", {"h_on": 2}, "query-db")):
        before = len(list((tmp_path / "kept").iterdir()))
        PromptedRetrieval("one", "", (), (), (change,), 5).measure(made, toy, RunContext(results=tmp_path))
        assert len(list((tmp_path / "kept").iterdir())) == before + 1
    again = PromptedRetrieval("two", "", (), (), (Row("phs", {"h_on": 2}),), 5).measure(
        made, toy, RunContext(results=tmp_path)
    )
    assert again[0].value == first[0].value and again[0].seconds == first[0].seconds


def test_all_ways_of_pointing_run_where_there_are_masks_and_say_so_where_not(made, masked, toy, tmp_path):
    rows = (
        Row("cbir"),
        *(Row(method, prompt=prompt) for method in ("mask", "phs") for prompt in ("point", "box", "segment")),
        Row("phs", noise=40),
        Row("phs", {"h_on": 9}),
    )
    rows = tuple(replace(row, options={"h_on": 2}) if row.method == "phs" and not row.options else row for row in rows)
    small = PromptedRetrieval("ways", "", (), (), rows, 5, ("MP", "MAP"))
    with_masks = small.measure(masked, toy, RunContext(results=tmp_path, limit=4))
    without = small.measure(made, toy, RunContext(results=tmp_path, limit=4))
    for cells_, run in ((with_masks, {"box", "segment", "point"}), (without, {"box"})):
        for cell in cells_:
            can = cell.options["prompt"] in run and cell.options.get("h_on") != 9
            assert (cell.status, cell.value is None) == (("ok", False) if can else ("not_run", True))
    assert {cell.metric for cell in with_masks} == {"MP@5", "MAP@5", "MP@5 minus cbir", "MAP@5 minus cbir"}


@pytest.mark.parametrize(
    ("by", "names"), [("objects", ["1", "2", "3", "10+"]), ("at-least", [f"{i}+" for i in range(1, 11)])]
)
def test_a_split_has_a_cell_for_every_number_and_one_for_all(crowded, toy, tmp_path, by, names):
    found = PromptedRetrieval("split", "", (), (), ROWS[:3:2], 5, by=by).measure(
        crowded, toy, RunContext(results=tmp_path)
    )
    plain = [cell for cell in found if cell.method == "phs" and cell.metric == "MP@5"]
    assert [cell.options.get("objects") for cell in plain] == [None, *names]
    (whole,) = (
        c
        for c in PromptedRetrieval("all", "", (), (), ROWS[:3:2][1:], 5).measure(
            crowded, toy, RunContext(results=tmp_path)
        )
        if c.n
    )
    assert plain[0].value == whole.value
    counts = {cell.options.get("objects"): cell.n for cell in plain}
    assert counts[None] == len(crowded.queries)
    if by == "objects":
        assert sum(counts[name] for name in names) == len(crowded.queries)
        assert counts["10+"] == 12
    else:
        assert counts["1+"] == len(crowded.queries) and counts["4+"] == counts["10+"] == 12
    for cell in found:
        assert cell.value is not None and cell.low is not None and cell.high is not None
        assert cell.low <= cell.value <= cell.high or cell.n == 12  # one picture alone has no spread


WAYS = (
    Row("cbir"),
    Row("phs", {"h_on": 2}),
    *(Row("phs", {"h_on": 2}, prompt=prompt) for prompt in ("segment", "point")),
    Row("mask", noise=40),
    Row("phs", {"h_on": 2}, "query-db"),
)


def test_odd_annotations_are_counted_and_never_end_a_run(odd, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prompted_retrieval, "CHUNK", 1)  # image 4 has no other query than one that is left out
    experiment = PromptedRetrieval("ways", "", (), (), WAYS, 5, ("MP", "P"))
    found = experiment.measure(odd, toy, RunContext(results=tmp_path))
    assert {cell.status for cell in found} == {"ok"}
    assert {cell.n for cell in found} == {len(odd.queries) - 2}
    assert np.isfinite(np.array([(cell.value, cell.low, cell.high) for cell in found], float)).all()
    counts = {cell.options["prompt"]: list(cell.oddities.values()) for cell in found}
    assert counts == {"box": [2, 2], "segment": [3, 2], "point": [3, 2]}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("odd: queries")]
    assert [line.rpartition(": ")[2] for line in lines] == ["3.", "2.", "2."]
    again = experiment.measure(odd, toy, RunContext(results=tmp_path))
    assert again == found


def test_what_is_left_out_changes_nothing_else(odd, toy, tmp_path):
    experiment = PromptedRetrieval("ways", "", (), (), WAYS[:4], 5)
    found = experiment.measure(odd, toy, RunContext(results=tmp_path / "odd"))
    usable = replace(odd, name="usable", queries=tuple(q for i, q in enumerate(odd.queries) if i not in (6, 7)))
    for cell, other in zip(found, experiment.measure(usable, toy, RunContext(results=tmp_path)), strict=True):
        assert (cell.value, cell.low, cell.high, cell.n) == (other.value, other.low, other.high, other.n)


def test_annotations_without_a_usable_box_are_one_sentence(odd, toy, tmp_path):
    nothing = replace(odd, queries=odd.queries[6:8])
    with pytest.raises(Unavailable, match="No query of odd has a box on its image"):
        SMALL.measure(nothing, toy, RunContext(results=tmp_path))
    with pytest.raises(Unavailable, match="raise --limit"):
        SMALL.measure(nothing, toy, RunContext(results=tmp_path, limit=1))


def test_a_split_has_no_group_without_a_counted_query(crowded, toy, tmp_path):
    queries = tuple(replace(q, prompt=Prompt.box(900, 0, 990, 9)) if q.image == 15 else q for q in crowded.queries)
    found = PromptedRetrieval("split", "", (), (), ROWS[:1], 5, by="objects").measure(
        replace(crowded, queries=queries), toy, RunContext(results=tmp_path)
    )
    assert [cell.options.get("objects") for cell in found] == [None, "1", "2", "3"]


def test_the_best_number_of_heads_is_a_cell_beside_the_papers(made, toy, tmp_path, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "COCO")
    monkeypatch.setitem(published.ENCODERS, "toy", ("DINOv2", "giant"))
    rows = (Row("cbir"), *(Row("phs", {"h_on": h_on}) for h_on in (1, 2, 6, 9)))
    *cells, best = PromptedRetrieval("scan", "", (), (), rows, 5, best=True).measure(
        made, toy, RunContext(results=tmp_path)
    )
    values = {
        cell.options.get("h_on"): cell.value for cell in cells if cell.metric == "MP@5" and cell.value is not None
    }
    assert (best.metric, best.unit, best.published) == ("best h_on", "heads", 1)
    assert values[best.value] == max(value for h_on, value in values.items() if h_on)


def test_a_published_value_stands_beside_its_group_only(crowded, toy, tmp_path, monkeypatch):
    monkeypatch.setitem(published.DATASETS, "made", "PASCAL VOC")
    monkeypatch.setitem(published.ENCODERS, "toy", ("DINOv2", "large"))
    (figure,) = (experiment for experiment in phs.EXPERIMENTS if experiment.name == "phs-figA2")
    cells = figure.measure(crowded, toy, RunContext(results=tmp_path))
    theirs = {
        (cell.method, cell.options.get("objects")): cell.published for cell in cells if cell.published is not None
    }
    assert theirs == {("mask", "2+"): 77.2, ("phs", "2+"): 77.9}


def test_another_dtype_is_compared_with_float32_row_by_row(made, tmp_path):
    rows, context = ROWS[:2], RunContext(results=tmp_path, device="cpu", dtype="bfloat16")
    beside = PromptedRetrieval("halves", "", (), (), rows, 5, beside_float32=True)
    cells: Any = beside.measure(made, beside.load_model("toy", context), context)
    changes = [cell for cell in cells if cell.metric == "MP@5 minus float32"]
    assert len(changes) == 2 and all(cell.low <= cell.value <= cell.high for cell in changes)
    exact: Any = beside.measure(made, beside.load_model("toy", replace(context, dtype="float32")), context)
    ours, theirs = (np.array([c.value for c in table if c.metric == "MP@5"]) for table in (cells, exact))
    assert [cell.value for cell in changes] == pytest.approx(ours - theirs, abs=1e-6)
    assert [cell.value for cell in exact if cell.metric == "MP@5 minus float32"] == [0, 0]
