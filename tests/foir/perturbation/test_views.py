"""A view shares all modules but those that it replaces."""

import torch

from foir.perturbation.views import replace_modules
from tests.foir.image_text.opened import open_internvl


def test_a_view_shares_everything_but_what_it_replaces():
    model, _, _ = open_internvl()
    other = torch.nn.Identity()
    seen = replace_modules(model, {"qllama.model.layers.1.mlp.1": other, "clip_projector2": other})
    assert seen.qllama.model.layers[1].mlp[1] is other and seen.clip_projector2 is other
    assert seen.qllama.model.layers[0] is model.qllama.model.layers[0]
    assert model.qllama.model.layers[1].mlp[1] is not other and model.clip_projector2 is not other
