"""Captions with a prompt, and options out of range."""

import pytest

from foir import BadPrompt, Prompt, Unavailable, image_text, images
from foir.image_text import clip
from foir.image_text.base import truncation_notes


def test_strengths_that_make_no_sense_are_refused(toy, photo, tmp_path):
    model = image_text.load("toy-words", device="cpu")
    photo.save(tmp_path / "photo.png")
    read = images.read(tmp_path / "photo.png")
    tokens = model.encode_images([read.image])
    for strength in (float("nan"), float("inf"), -1.0, 1e9):
        with pytest.raises(BadPrompt, match="strength"):
            model.caption_image(tokens, read, Prompt.point(5, 5), strength)
    with pytest.raises(BadPrompt, match="pointed at"):
        model.caption_image(tokens, read, None, 1.0)
    with pytest.raises(BadPrompt, match="Theta"):
        model.perturbation(tokens, [[]], theta=2.0)
    with pytest.raises(Unavailable, match="no dtype 'half'"):
        image_text.load("coca", dtype="half")


def test_a_caption_leans_towards_what_is_pointed_at(toy, photo, tmp_path):
    model = image_text.load("toy-words", device="cpu")
    photo.save(tmp_path / "photo.png")
    read = images.read(tmp_path / "photo.png")
    tokens = model.encode_images([read.image])
    assert model.caption_image(tokens, read) == "picture of 1"
    assert model.caption_image(tokens, read, Prompt.point(5, 5), 2.5) == "picture of 1, 1 pulled by 2.5"
    silent = clip.EncoderModel(toy)
    with pytest.raises(Unavailable, match="writes no captions"):
        silent.caption_image(tokens, read)
    with pytest.raises(Unavailable, match="reads no texts"):
        silent.encode_texts(["a dog"])


def test_it_is_told_whichever_text_was_cut():
    assert truncation_notes([False, True], 64) == ("Only the first 62 word pieces were read.",)
    assert truncation_notes([False, False], 64) == ()
