"""CLIP's texts and images agree with the library's own model."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from foir import Unavailable
from foir.encoders import clip as image_tower
from foir.image_text import clip
from tests.conftest import scene
from tests.lookalikes import END, Letters

LIMIT = 12


@pytest.fixture(scope="module")
def clip_model():
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "projection_dim": 16,
    }
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=CLIPTextConfig(**shape, vocab_size=99, max_position_embeddings=LIMIT, eos_token_id=END).to_dict(),
        vision_config=CLIPVisionConfig(**shape, image_size=32, patch_size=8).to_dict(),
        projection_dim=16,
    )
    return CLIPModel(config).eval()


@pytest.fixture(scope="module")
def opened(clip_model, tmp_path_factory):
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("clip")
    clip_model.save_pretrained(folder)
    vision = CLIPVisionModelWithProjection.from_pretrained(folder)
    text = CLIPTextModelWithProjection.from_pretrained(folder)
    return clip.Clip(image_tower.wrap(vision, "clip-base-projected", "made", projected=True), text, Letters())


def test_words_and_pictures_are_the_librarys_own(clip_model, opened):
    texts, pictures = ["a dog", "two cats"], [scene(0), scene(1)]
    pixels = opened.encoder.pixels(pictures)
    with torch.inference_mode():
        tokens = Letters()(texts, padding=True, return_tensors="pt")
        theirs = clip_model(**tokens, pixel_values=pixels)
    ours = opened.encode_texts(texts)
    np.testing.assert_allclose(ours.vectors, theirs.text_embeds.numpy(), atol=1e-5)
    features = opened.image_vectors(opened.encode_images(pictures))[:, 0].numpy()
    np.testing.assert_allclose(features, theirs.image_embeds.numpy(), atol=1e-5)
    assert ours.notes == ()
    assert opened.caption is None
    with pytest.raises(Unavailable, match="nothing can be steered"):
        opened.perturbation(opened.encode_images(pictures), [[], []])


def test_a_batch_of_words_equals_each_alone(opened):
    texts = ["a dog", "two cats", "x"]
    together = opened.encode_texts(texts).vectors
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(opened.encode_texts([text]).vectors[0], vector, atol=1e-5)


def test_a_long_text_is_cut_and_told(opened):
    made = opened.encode_texts(["a very long text indeed"])
    assert made.notes == (f"Only the first {LIMIT - 2} word pieces were read.",)
    np.testing.assert_allclose(made.vectors, opened.encode_texts(["a very lo" + "n"]).vectors, atol=1e-5)
