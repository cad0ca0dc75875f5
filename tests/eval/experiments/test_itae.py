"""Clustering on a model with and without artifacts."""

import numpy as np
import pytest

from eval.cli import main
from eval.datasets.base import ClassificationDataset
from eval.experiments import itae
from eval.experiments.itae import Clustering
from eval.experiments.specs import Row, RunContext
from eval.report.results import read
from foir.clustering import clustering_scores, kmeans
from tests.conftest import scene
from tests.foir.methods.test_itae import SINKS, encoder


def made(count=24):
    pictures = tuple((lambda i=i: scene(i, (64, 64))) for i in range(count))
    return ClassificationDataset("made", pictures, np.arange(count) % 3, ("a", "b", "c"))


TABLE = Clustering("made", "made", (), (), (Row("cbir"), Row("itae")), 2)


def test_a_clean_model_has_no_artifacts_and_one_row_twice():
    cells = TABLE.measure(made(), encoder(()), RunContext())
    told = {c.options["artifacts"] for c in cells if c.method == "itae"}
    assert told == {"none"}
    assert all(c.value == 0 for c in cells if "minus" in c.metric)


def test_sinks_are_told_and_the_scores_are_those_of_slow_code():
    data, model = made(), encoder(SINKS)
    cells = TABLE.measure(data, model, RunContext())
    row = next(c for c in cells if c.method == "itae")
    assert (row.options["component"], row.options["artifacts"]) == ("v", "4.69 %")
    vectors = model.finish(model.prefix(model.pixels([load() for load in data.images]))).vectors.numpy()
    slow = [clustering_scores(kmeans(vectors, 3, seed=seed), data.labels)["NMI"] for seed in range(2)]
    assert len(itae._scores(data, vectors, True, 2)) == 2
    (plain,) = [c for c in cells if (c.method, c.metric, c.options["features"]) == ("cbir", "NMI", "unit")]
    assert plain.value == pytest.approx(100 * np.mean(slow), abs=1e-6)
    assert (plain.low, plain.high) == pytest.approx((100 * min(slow), 100 * max(slow)))


def test_the_command_line_runs_it_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.datasets.classification.SINGLE", 6)
    out = tmp_path / "cells.json"
    words = ["run", "itae-table", "--encoder", "toy", "--dataset", "playroom-single", "--device", "cpu"]
    assert main([*words, "--results", str(tmp_path), "--json", str(out)]) == 0
    assert {c.metric for c in read(out)} >= {"ACC", "NMI", "ARI"}


def test_a_leaderboard_that_names_no_split_stands_beside_the_model_of_its_other_values():
    (table,) = itae.EXPERIMENTS
    row = table.rows[1]
    values = {data: table.published_value(row, data, "dinov2-base", "ACC") for data in table.datasets}
    assert values == {"cifar10": 84.49, "cifar100": 65.02, "stl10": 82.76, "tiny-imagenet": pytest.approx(68.23)}
    assert table.published_value(row, "tiny-imagenet", "dinov2-large", "ACC") is None
    assert table.published_value(table.rows[0], "cifar10", "dinov2-base", "ACC") is None
    assert "validation images" in table.note
