"""Models by name: remote code, absent weights."""

import pytest

from foir import Unavailable, image_text


def test_code_of_strangers_needs_a_word(monkeypatch):
    monkeypatch.delenv("FOIR_REMOTE_CODE", raising=False)
    with pytest.raises(Unavailable, match="FOIR_REMOTE_CODE=1"):
        image_text.load("internvl-g", revision="0" * 40, device="cpu")
    monkeypatch.setenv("FOIR_REMOTE_CODE", "1")
    with pytest.raises(Unavailable, match="name the commit"):
        image_text.load("internvl-g", device="cpu")


@pytest.mark.parametrize("name", ["blip2", "blip2-captions", "coca", "coca-squash"])
def test_absent_weights_are_one_sentence(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="connect to the network"):
        image_text.load(name, device="cpu")


def test_the_register_names_who_knows_words():
    assert {"mini", "clip-base-projected", "clip-large-projected"} <= set(image_text.models())
