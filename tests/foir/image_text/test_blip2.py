"""BLIP-2 against its library: texts, scores, matches, captions, half precision."""

import csv
import re

import numpy as np
import pytest
import torch

from foir import Unavailable, hub, image_text
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


def lavis(caption, max_words=50):
    """BlipCaptionProcessor.pre_caption of LAVIS, statement by statement."""
    caption = re.sub(r"([.!\"()*#:;~])", " ", caption.lower())
    caption = re.sub(r"\s{2,}", " ", caption)
    caption = caption.rstrip("\n")
    caption = caption.strip(" ")
    words = caption.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else caption


@pytest.mark.parametrize(
    ("text", "processed"),
    [
        ("A child in a pink dress is climbing up a set of stairs in an entry way .",
         "a child in a pink dress is climbing up a set of stairs in an entry way"),
        ('A dog ; "Rex" (black): jumps!!  *~#', "a dog rex black jumps"),
        ("Two men, one hat? It's 3-4 o'clock & 5/6", "two men, one hat? it's 3-4 o'clock & 5/6"),
        ("Tabs\tand\nlines \n", "tabs\tand\nlines"),
        (" ".join(["Word"] * 60), " ".join(["word"] * 50)),
        (" . ", ""),
    ],
)  # fmt: skip
def test_texts_go_through_the_caption_processor(text, processed):
    assert blip2.process_caption(text) == processed == lavis(text)


def test_the_caption_processor_changes_nine_in_ten_captions_of_flickr8k():
    path = hub.data_folder() / "flickr8k" / "captions.txt"
    if not path.exists():
        pytest.skip(f"Flickr8k's captions are not at {path}")
    with path.open(newline="", encoding="utf-8") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    processed = [blip2.process_caption(caption) for caption in captions]
    assert processed == [lavis(caption) for caption in captions]
    pairs = list(zip(captions, processed, strict=True))
    assert (len(pairs), sum(new != old for old, new in pairs)) == (40455, 39243)
    assert sum(new != old.strip().lower() for old, new in pairs) == 36597  # 90.5 %; the tokenizer ignores case


def test_raw_texts_are_a_model_of_their_own(pictures, monkeypatch):
    model, processing, _ = open_blip2()
    loaded = lambda *args: ("made", model, lookalikes.Letters(1))  # noqa: E731
    monkeypatch.setattr(blip2, "_load", loaded)
    raw = image_text.load("blip2-raw", device="cpu")
    default = image_text.load("blip2", device="cpu")
    assert (raw.name, default.name) == ("blip2-raw", "blip2")
    dirty, clean = ["A Dog!", "Two cats (on a mat)."], ["a dog", "two cats on a mat"]
    tokens = default.encode_images(pictures)
    assert default.match is not None and raw.match is not None
    for ours in (processing, default):
        np.testing.assert_array_equal(ours.encode_texts(dirty).vectors, ours.encode_texts(clean).vectors)
    torch.testing.assert_close(default.match(tokens, dirty), default.match(tokens, clean))
    np.testing.assert_array_equal(raw.encode_texts(clean).vectors, default.encode_texts(clean).vectors)
    assert np.abs(raw.encode_texts(dirty).vectors - default.encode_texts(dirty).vectors).max() > 1e-3
    assert (raw.match(tokens, dirty) - default.match(tokens, dirty)).abs().max() > 1e-4


def test_random_weights_read_no_texts():
    model, _, _ = open_blip2()
    silent = blip2.Blip2Images("blip2", "random", model, None)
    assert silent.match is None
    with pytest.raises(Unavailable, match="reads no texts"):
        silent.encode_texts(TEXTS)
