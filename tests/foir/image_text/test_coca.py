"""CoCa's captions, and other poolers."""

import pytest
import torch

from foir import Unavailable
from foir.image_text import coca
from foir.perturbation import beam_search
from tests import lookalikes
from tests.foir.image_text.opened import BOXES, CocaLetters, open_coca, pixels_of, regions


def test_coca_writes_the_likeliest_words(pictures, monkeypatch):
    monkeypatch.setattr(beam_search, "WIDTH", 1)
    monkeypatch.setattr(coca, "MAX_WORDS", 8)
    model, ours, _ = open_coca()
    assert ours.caption is not None
    tokens, pixels = ours.encode_images(pictures), pixels_of("coca", pictures)
    written = []
    for i in range(2):
        ids = [97]
        while len(ids) < 9 and ids[-1] != lookalikes.END:
            with torch.no_grad():
                logits = model(pixels[[i]], torch.tensor([ids]), output_labels=False)["logits"][0, -1].clone()
            logits[97] = -torch.inf
            ids.append(int(logits.argmax()))
        written.append(" ".join(str(i) for i in ids[1:] if i != lookalikes.END))
    assert ours.caption(tokens) == written
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=30.0)
    assert ours.caption(tokens, pull) != written


def test_coca_of_another_kind_is_refused():
    model = lookalikes.coca()
    model.visual.attn_pool = None
    with pytest.raises(Unavailable, match="attentional pooler"):
        coca.Coca(model, CocaLetters(), "made")
