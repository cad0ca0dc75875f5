"""BLIP-2 against its library: scores, matches, captions, half precision."""

import numpy as np
import pytest
import torch

from foir import Unavailable
from foir.image_text import blip2
from tests import lookalikes
from tests.foir.image_text.opened import BOXES, TEXTS, open_blip2, pixels_of, regions


def test_blip2_scores_and_matches_as_the_library_does(pictures):
    model, ours, _ = open_blip2()
    assert ours.match is not None
    tokens, pixels = ours.encode_images(pictures), pixels_of("blip2", pictures)
    ids = lookalikes.Letters(1)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        contrast = model(pixels, **ids).logits_per_image
        matched = model(pixels, **ids, use_image_text_matching_head=True).logits_per_image
    scores = (ours.image_vectors(tokens) @ torch.from_numpy(ours.encode_texts(TEXTS).vectors).T).amax(1)
    torch.testing.assert_close(scores, contrast, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.match(tokens, TEXTS), matched[:, 1], rtol=1e-5, atol=1e-6)
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=4.0)
    rows = [1, 0, 1]
    pairs = ours.match(tokens[rows], ["a", "b", "c"], pull.take(torch.tensor(rows)))
    each = [
        ours.match(tokens[[row]], [text], pull.take(torch.tensor([row]))) for row, text in zip(rows, "abc", strict=True)
    ]
    torch.testing.assert_close(pairs, torch.cat(each), rtol=1e-4, atol=1e-5)
    assert (pairs - ours.match(tokens[rows], ["a", "b", "c"])).abs().max() > 1e-4


def test_blip2_writes_what_the_library_writes(pictures):
    from transformers import Blip2ForConditionalGeneration

    model = lookalikes.blip2(Blip2ForConditionalGeneration)
    ours = blip2.Blip2Captions("blip2-captions", "made", model, lookalikes.Letters(1))
    assert ours.caption is not None
    tokens = ours.encode_images(pictures)
    ids = model.generate(
        pixels_of("blip2", pictures), max_new_tokens=blip2.MAX_NEW_TOKENS, num_beams=blip2.BEAMS, do_sample=False
    )
    theirs = lookalikes.Letters().batch_decode(ids)
    assert [line.split()[:8] for line in ours.caption(tokens)] == [
        [word for word in line.split() if word not in ("96", "97")][:8] for line in theirs
    ]
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=30.0)
    assert ours.caption(tokens, pull) != ours.caption(tokens)
    with pytest.raises(Unavailable, match="reads no texts"):
        ours.encode_texts(TEXTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blip2_in_half_precision_beside_a_full_qformer(pictures, dtype):
    """As transformers loads it: the Q-Former and its queries stay in float32."""
    model, full, _ = open_blip2()
    tokens = full.encode_images(pictures)
    whole = full.image_vectors(tokens, full.perturbation(tokens, regions(full, BOXES), strength=2.0))
    model.to(dtype)
    model.qformer.float()
    model.query_tokens.data = model.query_tokens.data.float()
    half = blip2.Blip2Retrieval("blip2", "made", model, lookalikes.Letters(1))
    assert half.match is not None
    tokens = half.encode_images(pictures)
    assert tokens.dtype == dtype
    pulled = half.image_vectors(tokens, half.perturbation(tokens, regions(half, BOXES), strength=2.0))
    assert (pulled * whole).sum(-1).min() > 0.95
    assert np.isfinite(half.encode_texts(TEXTS).vectors).all() and half.match(tokens, TEXTS).isfinite().all()


def test_random_weights_read_no_texts():
    model, _, _ = open_blip2()
    silent = blip2.Blip2Images("blip2", "random", model, None)
    assert silent.match is None
    with pytest.raises(Unavailable, match="reads no texts"):
        silent.encode_texts(TEXTS)
