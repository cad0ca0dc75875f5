"""Captions that follow the prompt are counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.datasets.base import Dataset, Query
from eval.experiments import caption_steering
from eval.experiments.caption_steering import CaptionSteering
from eval.experiments.specs import RunContext
from foir import Prompt, Unavailable
from tests.conftest import scene, with_members
from tests.eval.experiments.test_query_perturbation import value_of


def test_a_caption_that_follows_the_finger_is_counted(speaking, capsys):
    def caption(tokens, pull=None):
        if pull is None:
            return ["a cup and a horse"]
        x = float((pull.objects.coverage[0].reshape(-1)[5:] * torch.arange(64)).sum())
        return ["a dog" if x < 100 else "a cup"]

    queries = tuple(Query(0, Prompt.box(*box), kind) for box, kind in (((0, 0, 20, 20), 0), ((100, 80, 150, 110), 1)))
    data = Dataset(
        "made", (), np.zeros((0, 3), bool), queries, (lambda: scene(0),), ("pets", "cup", "big"),
        sentences=("Two dogs and a cup.",), category_words=(("guide dog", "big"), ("tea cup",), ("horse", "big")),
    )  # fmt: skip
    assert caption_steering.category_words(data) == {"dog": 0, "cup": 1, "horse": 2}
    cells = CaptionSteering("made", "made", (), (), (0, 2)).measure(
        data, with_members(speaking, caption=caption), RunContext()
    )
    assert value_of(cells, "plain", "says") == 50 and value_of(cells, "plain", "says what is not there") == 100
    assert value_of(cells, "qpert", "says", strength=2) == 100
    assert value_of(cells, "qpert", "says what is not there minus unpointed", strength=2) == -100
    assert value_of(cells, "qpert", "CIDEr", strength=2) is not None
    half = with_members(speaking, caption=caption, crop=lambda size: (slice(0, 120), slice(60, 160)))
    cells = CaptionSteering("made", "made", (), (), (2,)).measure(data, half, RunContext())
    assert value_of(cells, "qpert", "says", strength=2) == 50  # nothing steers towards what the model does not see
    assert "prompts outside what toy-words sees of their images: 1," in capsys.readouterr().out
    with pytest.raises(Unavailable, match="writes no captions"):
        CaptionSteering("made", "made", (), (), (0,)).measure(data, with_members(speaking, caption=None), RunContext())


def test_a_query_whose_box_is_not_on_its_image_is_left_out_and_counted(speaking, capsys):
    boxes = ((0, 0, 20, 20), (900, 0, 990, 9), (float("nan"), 0, 9, 9), (50, 60, 30, 20))
    data = Dataset(
        "made", (), np.zeros((0, 1), bool), tuple(Query(0, Prompt.box(*box), 0) for box in boxes), (lambda: scene(0),),
        ("cup",),
    )  # fmt: skip
    said = with_members(speaking, caption=lambda tokens, pull=None: ["a cup"])
    cells = CaptionSteering("made", "made", (), (), (0, 2)).measure(data, said, RunContext())
    assert {cell.n for cell in cells} == {2} and value_of(cells, "qpert", "says", strength=2) == 100
    assert {tuple(cell.oddities.values()) for cell in cells} == {(1, 2)}
    assert "made: queries left out because their box has no part on the image: 2." in capsys.readouterr().out
    with pytest.raises(Unavailable, match="No query of made has a box on its image"):
        CaptionSteering("made", "made", (), (), (0,)).measure(
            replace(data, queries=data.queries[1:3]), said, RunContext()
        )
