"""The cost of query perturbation is measured on the model."""

import pytest

from eval.experiments import registry
from eval.experiments.perturbation_cost import PerturbationCost
from eval.experiments.specs import RunContext
from foir.image_text import blip2
from tests import lookalikes


def test_what_it_costs_is_measured_on_the_model(capsys):
    from transformers import Blip2ForImageTextRetrieval

    model = blip2.Blip2Retrieval("blip2", "made", lookalikes.blip2(Blip2ForImageTextRetrieval), lookalikes.Letters(1))
    experiment = registry()["qpert-tableB"]
    assert isinstance(experiment, PerturbationCost)
    cells = experiment.measure(None, model, RunContext(limit=2))
    ours = {c.options.get("step", c.metric): c.value for c in cells if c.value is not None}
    assert ours["image encoding"] > 0 and ours["subspaces"] > 0
    share = ours["subspaces of image encoding"]
    assert share == pytest.approx(100 * ours["subspaces"] / ours["image encoding"])
    assert [c.published for c in cells if c.status == "published_only"][:2] == [321.0, 413.0]
