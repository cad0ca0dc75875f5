"""The training losses use the same head selection as the search."""

import numpy as np
import pytest
import torch

from foir import Prompt
from foir.encoders.intervention import PLAIN
from foir.methods import intervene
from foir.mini import weights
from foir.mini.training import objectives
from foir.patches import rasterise
from tests.conftest import scene


@pytest.mark.parametrize("h_on", [3, 5, 12])
def test_training_selects_heads_as_searching_does(encoder, h_on):
    """The loss sees the very vectors of `foir.methods.phs`, so PHS stays the paper's."""
    pictures = [scene(0), scene(1)]
    boxes = [[(10, 10, 60, 50), (80, 30, 150, 110)], [(5, 60, 90, 118)]]
    masks = [[rasterise(Prompt.box(*box), (160, 120), encoder.grid) for box in row] for row in boxes]
    prefix = encoder.prefix(encoder.pixels(pictures))
    frozen = encoder.pixels(pictures)
    with torch.inference_mode():
        tokens = encoder.embed(frozen)
        for layer in encoder.layers[: weights.FROZEN]:
            tokens = layer(tokens)
        seen = objectives.run_trained_blocks(encoder, tokens)
        things = objectives.BatchObjects.collate(
            [(np.stack([m.patches.reshape(-1) for m in row]), np.arange(len(row))) for row in masks], "cpu"
        )
        learnt = objectives.prompted_vectors(encoder, seen, things, h_on)
        whole = objectives.global_vectors(encoder, seen)
    torch.testing.assert_close(whole, encoder.finish(prefix, [PLAIN] * 2).vectors, atol=1e-5, rtol=1e-4)
    place = 0
    for i, row in enumerate(masks):
        for box, mask in zip(boxes[i], row, strict=True):
            step = intervene("phs", Prompt.box(*box), mask, {"h_on": h_on})
            searched = encoder.finish(prefix[i], [step]).vectors[0]
            torch.testing.assert_close(learnt[place], searched, atol=1e-5, rtol=1e-4)
            place += 1
