"""Every published number stands beside a cell of an experiment, or has a sentence why not."""

import csv
from itertools import product
from typing import Any

import numpy as np
import pytest

from eval.datasets.base import CaptionedDataset, ClassificationDataset, Dataset, InstanceDataset
from eval.experiments import query_perturbation, registry
from eval.experiments.dataset_stats import RELATIVE, DatasetStats, InstanceStats
from eval.experiments.instance_retrieval import InstanceRetrieval, published_value
from eval.experiments.itae import METRICS, Clustering
from eval.experiments.perturbation_cost import PerturbationCost, _published_cells
from eval.experiments.prompted_retrieval import PromptedRetrieval
from eval.experiments.query_perturbation import QueryPerturbation
from eval.report import published
from eval.report.results import CellBuilder

EMPTY: dict[Any, Any] = {
    Dataset: Dataset("", (), np.zeros((0, 0), bool), (), (), ()),
    CaptionedDataset: CaptionedDataset("", (), ()),
    ClassificationDataset: ClassificationDataset("", (), np.zeros(0), ()),
    InstanceDataset: InstanceDataset("", (), ()),
}
OBJECTS = ("test annotations", "annotated objects per image", "mean object size percent of image")


class Asked(dict):
    """The published values; remembers the keys that were found."""

    def __init__(self, values):
        super().__init__(values)
        self.found = set()

    def get(self, key, default=None):
        if key in self:
            self.found.add(key)
        return super().get(key, default)


def ask(experiment, dataset, encoder):
    """Look up the published values of all cells of an experiment, as its `measure` does."""
    if experiment.data_kind is not None:  # what is written when it is loaded
        for name in EMPTY[experiment.data_kind].sizes:
            published.fact(dataset, name)
    match experiment:
        case PromptedRetrieval():
            for row, metric in product(experiment.rows, experiment.metrics):
                experiment.published_value(row, dataset, encoder, f"{metric}@{experiment.k}", experiment.group)
            if experiment.best:
                published.value("phs", "Sec4.9", dataset, encoder, ("PHS", "best h_on in scan"), "h_on")
        case Clustering():
            for row, metric in product(experiment.rows, METRICS):
                experiment.published_value(row, dataset, encoder, metric)
        case InstanceRetrieval():
            for row in experiment.rows:
                published_value(experiment, row, dataset, encoder)
        case QueryPerturbation():
            metrics: list[tuple[str, dict[str, str]]] = [
                (f"{kind}@{k}", {}) for kind in ("R", "mR") for k in experiment.ks
            ] + [("R@1", {"bin": "0-10%"})]
            for row, direction, (metric, part) in product(experiment.rows, ("t2i", "i2t"), metrics):
                cell = CellBuilder(experiment.name, dataset, encoder, {}, options={"direction": direction})
                query_perturbation.published_value(experiment, row, cell, metric, part)
        case DatasetStats():
            published.fact(dataset, "single_object_query_share_percent")
            published.fact(dataset, "percent", RELATIVE)
        case InstanceStats():
            for name in OBJECTS:
                published.fact(dataset, name)


def same_number(key):
    """What MaO's tables repeat: a number of its main table, and one of a method without boxes in the column W."""
    paper, table, dataset, *rest = key
    return (paper, "" if paper == "mao" else table, dataset.removesuffix("W"), *rest, published.all_values()[key])


@pytest.fixture
def reached(monkeypatch):
    """The keys of the published values that some experiment prints."""
    values = Asked(published.all_values())
    with monkeypatch.context() as patch:
        patch.setattr(published, "all_values", lambda: values)
        for experiment in registry().values():
            for dataset, encoder in product(experiment.datasets, experiment.encoders):
                ask(experiment, dataset, encoder)
            if isinstance(experiment, PerturbationCost):
                rows = {(cell.method, cell.options["device"], cell.published) for cell in _published_cells("")}
                values.found |= {key for key in values if key[1] == "B" and (*key[5:7], values[key]) in rows}
    printed = {same_number(key) for key in values.found}
    return {key for key in values if same_number(key) in printed}


def excuses():
    with (published.FOLDER / "unreached.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_excused(excuse, key):
    paper, table, dataset, _, _, method, variant, metric = key
    facts = {"paper": paper, "table": table, "dataset": dataset, "method": method, "variant": variant, "metric": metric}
    return all(excuse[name] in ("", fact) for name, fact in facts.items())


def test_every_published_number_is_printed_beside_ours_or_has_a_reason(reached):
    missing = [key for key in published.all_values() if key not in reached]
    assert [key for key in missing if not any(is_excused(excuse, key) for excuse in excuses())] == []
    assert len(reached) >= 1160  # of 1,201


def test_every_reason_is_of_a_number_that_is_not_printed(reached):
    missing = [key for key in published.all_values() if key not in reached]
    assert [excuse for excuse in excuses() if not any(is_excused(excuse, key) for key in missing)] == []
    assert all(excuse["reason"].endswith(".") for excuse in excuses())
