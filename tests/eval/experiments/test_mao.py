"""Published values of the MaO ablation."""

from typing import Any

from eval.experiments import instance_retrieval, registry
from eval.report import published


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


def test_a_method_without_boxes_has_one_number_for_both_columns():
    """The table prints it twice, so that its one row may stand for both."""
    columns: dict[Any, set[float]] = {}
    plain = ("backbone zero-shot", "+fine-tuning")
    for (paper, _, dataset, _, _, method, variant, _), value in published.all_values().items():
        if paper == "mao" and (variant in plain or method in ("GSS", "GeM", "SuperGlobal") and variant != "fine-tuned"):
            columns.setdefault((dataset.removesuffix("W"), method, variant), set()).add(value)
    assert len(columns) == 14 and all(len(values) == 1 for values in columns.values())
    ablation: Any = registry()["mao-ablation"]
    plain_row = ablation.rows[0]
    assert instance_retrieval.published_value(ablation, plain_row, "voxdet", "dinov2-base") == 51.23
    assert "VoxDetW" in ablation.note
