"""Simulated users against a slow literal one."""

from dataclasses import replace

import numpy as np
import pytest

from eval.datasets.base import Dataset, Query
from eval.experiments import feedback
from eval.experiments.feedback import RelevanceFeedback
from eval.experiments.specs import Row, RunContext
from foir import Prompt, Unavailable, image_text
from foir.ranking.feedback import Judgements, relevance
from tests.conftest import scene

SIZES = (0, 2, 4)


TABLE = RelevanceFeedback(
    "made", "made", ("made",), ("toy-words",), (Row("cbir"), Row("cbir", {"rule": "rocchio"})), SIZES
)


@pytest.fixture
def made():
    """Twenty pictures, each with some of three labels; every picture asks for its first one."""
    rng = np.random.default_rng(0)
    labels = rng.random((20, 3)) < 0.4
    labels[np.arange(20), np.arange(20) % 3] = True
    pictures = tuple((lambda i=i: scene(i)) for i in range(20))
    queries = tuple(Query(i, Prompt.box(10, 10, 60, 60), i % 3) for i in range(0, 20, 2))
    kinds = tuple((f"thing {i}",) for i in range(3))
    return Dataset(
        "made", pictures, labels, queries, pictures, ("a", "b", "c"), leave_one_out=True, category_words=kinds
    )


@pytest.fixture(scope="module")
def model():
    return image_text.load("toy-words", device="cpu")


def slow(relevant):
    """MAP@R of one ranking, one number after the other."""
    total, found, sum_ = sum(relevant), 0, 0.0
    for place in range(total):
        if relevant[place]:
            found += 1
            sum_ += found / (place + 1)
    return sum_ / total


@pytest.mark.parametrize("protocol", feedback.PROTOCOLS)
@pytest.mark.parametrize("rule", ["nn_ratio", "rocchio"])
def test_the_runner_says_what_slow_code_says(made, model, tmp_path, protocol, rule):
    cells = TABLE.measure(made, model, RunContext(results=tmp_path))
    vectors = np.concatenate([model.image_vectors(model.encode_images([load()]))[0].numpy() for load in made.gallery])
    for size in SIZES:
        values = []
        for query in made.queries:
            own = query.image
            plain = vectors @ vectors[own]
            others = [i for i in np.argsort(-plain) if i != own]
            shown = others[:size]
            right = [i for i in shown if made.labels[i, query.category]]
            wrong = [i for i in shown if not made.labels[i, query.category]]
            ranked = (
                relevance([vectors], Judgements(vectors[right], vectors[wrong], vectors[own]), rule) if size else plain
            )
            gone = {own, *(others[: max(SIZES)] if protocol == "residual" else [])}
            order = [i for i in np.argsort(-ranked, kind="stable") if i not in gone]
            relevant = [bool(made.labels[i, query.category]) for i in order]
            if any(relevant):
                values.append(slow(relevant))
        (cell,) = [
            c for c in cells
            if c.metric == "MAP@R" and c.options["rule"] == rule
            and (c.options["protocol"], c.options["feedback"]) == (protocol, size)
        ]  # fmt: skip
        assert cell.value == pytest.approx(100 * np.mean(values), abs=1e-3)
        assert cell.n == len(values)


def test_measures_of_one_ranking():
    ranking = np.array([False, True, True, False, True])
    got = feedback.ranking_metrics(ranking, (1, 2))
    assert got == {"MAP@R": pytest.approx((1 / 2 + 2 / 3) / 3), "R@1": 0.0, "R@2": 1.0}


def test_queries_with_nothing_left_to_find_are_left_out(made, model, tmp_path):
    made.labels[:] = False
    made.labels[[0, 2, 4], 0] = made.labels[1::3, 1] = made.labels[2::3, 2] = True
    everything = RelevanceFeedback("made", "made", (), (), (Row("cbir"),), (0, 12))
    cells = everything.measure(made, model, RunContext(results=tmp_path))
    full, residual = ({c.n for c in cells if c.options["protocol"] == p} for p in feedback.PROTOCOLS)
    assert full == {len(made.queries)} and 0 < max(residual) < len(made.queries)


def test_words_join_round_one(made, model, tmp_path):
    worded = RelevanceFeedback(
        "made", "made", (), (), (Row("cbir"), Row("cbir", {"words": False})), SIZES, with_text=True
    )
    cells = worded.measure(made, model, RunContext(results=tmp_path))
    with_words, without = (
        next(c for c in cells if c.metric == "MAP@R" and c.options.get("words", True) is told) for told in (True, False)
    )
    assert with_words.n == without.n and with_words.value != without.value
    nameless = Dataset("made", made.gallery, made.labels, made.queries, made.query_images, made.categories)
    with pytest.raises(Unavailable, match="no words for its categories"):
        worded.measure(nameless, model, RunContext(results=tmp_path))


def test_a_query_whose_box_is_not_on_its_image_is_left_out_and_counted(made, model, tmp_path, capsys):
    outside = Prompt.box(900, 0, 990, 9)
    queries = tuple(replace(query, prompt=outside) if i == 2 else query for i, query in enumerate(made.queries))
    odd, usable = replace(made, queries=queries), replace(made, queries=queries[:2] + queries[3:])
    found, other = (TABLE.measure(data, model, RunContext(results=tmp_path)) for data in (odd, usable))
    assert [(cell.metric, cell.n) for cell in found] == [(cell.metric, cell.n) for cell in other]
    for cell, same in zip(found, other, strict=True):
        assert list(cell.oddities.values()) == [1]
        assert cell.value == same.value or cell.unit == "ms"
    assert "made: queries left out because their box has no part on the image: 1." in capsys.readouterr().out
    with pytest.raises(Unavailable, match="No query of made has a box on its image"):
        TABLE.measure(replace(made, queries=queries[2:3]), model, RunContext(results=tmp_path))
