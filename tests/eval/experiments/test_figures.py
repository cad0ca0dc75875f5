"""Every figure is drawn."""

import numpy as np
import pytest
from PIL import Image

from eval.experiments import figures, registry
from eval.experiments.figures import Figure
from eval.experiments.specs import RunContext


@pytest.mark.parametrize("figure", list(figures.FIGURES))
def test_every_figure_is_drawn(crowded, toy, tmp_path, figure):
    context = RunContext(results=tmp_path, limit=2)
    assert Figure("figure", "", (), (), figure).measure(crowded, toy, context) == []
    sheet = Image.open(tmp_path / "figure-made-toy.png")
    columns = {"attention": 4, "more_attention": 4, "heads": 7, "selected": 2, "context": 6}[figure]
    assert isinstance(sheet, Image.Image)
    assert sheet.width > columns * 200
    assert sheet.height > (8 if figure == "context" else 2) * 200
    assert np.asarray(sheet).std() > 20


def test_figures_name_functions_that_are_there():
    named = {experiment.figure for experiment in registry().values() if isinstance(experiment, Figure)}
    assert named == set(figures.FIGURES)
