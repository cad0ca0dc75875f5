"""Published values of the MaO ablation."""

from typing import Any

from eval.experiments import instance_retrieval, registry


def test_the_ablation_knows_both_columns():
    experiment: Any = registry()["mao-ablation"]
    found = {
        (row.published, row.options.get("boxes")): instance_retrieval.published_value(
            experiment, row, "voxdet", "dinov2-base"
        )
        for row in experiment.rows
        if row.published
    }
    whole = ("MaO", "+multi-object optimisation (MaO)")
    assert (found[whole, "annotated"], found[whole, "detected"]) == (83.70, 68.54)
    assert found[("MaO", "+full-image optimisation"), "detected"] == 48.24
