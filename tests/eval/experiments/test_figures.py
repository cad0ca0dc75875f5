"""Every figure is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eval.experiments import figures, registry
from eval.experiments.figures import Figure
from eval.experiments.specs import RunContext
from foir.prompts import Prompt


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


@pytest.mark.parametrize("box", [(900, 10, 960, 60), (float("nan"), 10, 60, 60)])
def test_an_object_that_is_not_on_its_image_is_not_drawn(crowded, toy, tmp_path, box):
    odd = tuple(replace(query, prompt=Prompt.box(*box)) if query.image == 0 else query for query in crowded.queries)
    Figure("figure", "", (), (), "selected").measure(
        replace(crowded, queries=odd), toy, RunContext(results=tmp_path, limit=1)
    )
    usable = replace(crowded, queries=tuple(query for query in crowded.queries if query.image))
    Figure("other", "", (), (), "selected").measure(usable, toy, RunContext(results=tmp_path, limit=1))
    drawn, other = (np.asarray(Image.open(tmp_path / f"{name}-made-toy.png")) for name in ("figure", "other"))
    np.testing.assert_array_equal(drawn, other)
