"""Every published value of the Q-Pert paper has its row."""

from itertools import product
from typing import Any

from eval.experiments import qpert, query_perturbation, registry
from eval.experiments.query_perturbation import QueryPerturbation
from eval.experiments.specs import Row
from eval.report import published
from eval.report.results import CellBuilder


def test_the_papers_numbers_are_beside_their_rows():
    assert published.value("qpert", "2", "flickr30k", "blip2", ("Q-Pert(D)", "T2I"), "R@1") == 89.86
    assert published.value("qpert", "3", "coco-5k", "blip2", ("SCAN", "I2T"), "R@10") == 90.0
    assert published.value("qpert", "4", "flickr-fg", "coca", ("base", "T2I"), "R@1") == 82.84
    for experiment in qpert.EXPERIMENTS:
        if not isinstance(experiment, QueryPerturbation) or not experiment.tables:
            continue
        found = []
        metrics: list[tuple[str, dict[str, str]]] = [
            (f"{kind}@{k}", {}) for kind in ("R", "mR") for k in (1, 5, 10)
        ] + [("R@1", {"bin": "0-10%"})]
        for row, data, model in product(experiment.rows, experiment.datasets, experiment.encoders):
            for (metric, part), direction in product(metrics, ("t2i", "i2t")):
                cell = CellBuilder(experiment.name, data, model, {}, options={"direction": direction})
                found.append(query_perturbation.published_value(experiment, row, cell, metric, part))
        theirs = [key for key in published.all_values() if key[0] == "qpert" and key[1] in experiment.tables]
        assert sum(value is not None for value in found) == len(theirs), experiment.name


def test_the_released_codes_mode_is_never_beside_published_numbers():
    """Its rows depend on the arbitrary signs of eigenvectors."""
    rows = [
        row for experiment in registry().values() for row in getattr(experiment, "rows", ()) if isinstance(row, Row)
    ]
    legacy = [row for row in rows if row.options.get("mode") == "legacy"]
    assert len(legacy) >= 2 and all(row.published is None for row in legacy)
    table: Any = registry()["qpert-table2"]
    cell = CellBuilder(table.name, "flickr30k", "blip2", {}, options={"direction": "t2i"})
    paper, legacy_row = (
        Row("qpert", {"boxes": "annotated", "mode": mode}, published=("Q-Pert(E)", "")) for mode in ("paper", "legacy")
    )
    assert query_perturbation.published_value(table, paper, cell, "R@1", {}) == 89.82
    assert query_perturbation.published_value(table, legacy_row, cell, "R@1", {}) is None


def test_table_a_compares_with_the_boxes_that_a_sentence_mentions():
    (table,) = [experiment for experiment in qpert.EXPERIMENTS if experiment.name == "qpert-tableA"]
    assert isinstance(table, QueryPerturbation)
    assert [row.published for row in table.rows if row.options.get("boxes") == "mentioned"] == [None]
