"""CoCa's captions, the part of a picture that it sees, and other poolers."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from foir import BadPrompt, Prompt, Unavailable, image_text
from foir.encoders import openclip
from foir.image_text import coca
from foir.patches import coverage
from foir.perturbation import beam_search
from tests import lookalikes
from tests.conftest import scene
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


SHAPES = [(160, 120), (120, 200), (301, 97), (56, 56), (23, 40), (1, 40)]


def opened(name="coca", **config):
    model = lookalikes.coca()
    if config:
        open_clip.set_model_preprocess_cfg(model, {"size": 56, "mean": (0.5,) * 3, "std": (0.5,) * 3, **config})
    return model, coca.Coca(model, CocaLetters(), "made", squash=name == "coca-squash")


@pytest.mark.parametrize(("name", "mode"), [("coca", "shortest"), ("coca-squash", "squash")])
@pytest.mark.parametrize("size", SHAPES)
def test_pictures_are_prepared_as_open_clip_does(name, mode, size):
    model, ours = opened(name)
    picture = scene(1, (301, 200)).resize(size)
    theirs = open_clip.image_transform(56, is_train=False, resize_mode=mode)(picture)[None]
    assert torch.equal(ours.preprocess(picture)[None], theirs)
    with torch.inference_mode():
        assert torch.equal(ours.image_vectors(ours.encode_images([picture]))[:, 0], model.encode_image(theirs))
    assert ours.name == name


def test_what_the_checkpoint_says_about_its_pictures_holds():
    _, ours = opened(interpolation="bilinear", resize_mode="squash")
    own = open_clip.image_transform(
        56, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", resize_mode="squash"
    )
    assert torch.equal(ours.preprocess(scene(0)), own(scene(0)))
    assert ours.crop((160, 120)) is None
    with pytest.raises(Unavailable, match="pads pictures"):
        opened(resize_mode="longest")


@pytest.mark.parametrize("name", ["coca", "coca-squash"])
@pytest.mark.parametrize("size", SHAPES[:4])
def test_a_box_lies_where_its_pixels_land(name, size):
    """A white box on black is bright on exactly the patches of its region, up to the blur of the resize."""
    _, ours = opened(name)
    white = open_clip.image_transform(56, is_train=False)(Image.new("RGB", (9, 9), "white"))
    black = open_clip.image_transform(56, is_train=False)(Image.new("RGB", (9, 9), "black"))
    random = np.random.default_rng(0)
    for _ in range(20):
        (x0, x1), (y0, y1) = (sorted(random.choice(length + 1, 2, replace=False).tolist()) for length in size)
        picture = Image.new("RGB", size)
        picture.paste("white", (x0, y0, x1, y1))
        light = ((ours.preprocess(picture) - black) / (white - black)).mean(0).numpy()
        light = light.reshape(4, 14, 4, 14).mean((1, 3))
        try:
            region = ours.region(Prompt.box(x0, y0, x1, y1), size)
        except BadPrompt:
            assert light.max() < 0.1
            continue
        assert (light[~region.patches] < 0.1).all()
        np.testing.assert_allclose(light, coverage(region.pixels, (4, 4)), atol=0.12)


def test_a_box_on_the_edge_of_a_wide_picture_is_outside():
    edge, middle, wide = Prompt.box(0, 20, 60, 80), Prompt.box(150, 20, 250, 80), (400, 100)
    _, ours = opened()
    with pytest.raises(BadPrompt, match="middle of this picture"):
        ours.region(edge, wide)
    with pytest.raises(BadPrompt, match="middle of this picture"):
        ours.region(Prompt.point(10, 50), wide)
    (seen,) = ours.visible_regions([edge, middle, Prompt.box(500, 0, 600, 50)], wide)
    assert seen.size == (100, 100) and seen.box == (0, 20, 100, 80)
    _, squashed = opened("coca-squash")
    assert squashed.region(edge, wide).patches[:, 0].any()


@pytest.mark.parametrize("name", ["coca", "coca-squash"])
def test_both_are_reached_by_name(name, monkeypatch):
    monkeypatch.setattr(openclip, "create_model", lambda *_: lookalikes.coca())
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *_: CocaLetters())
    model = image_text.load(name, device="cpu", pretrained=False)
    assert (model.name, model.revision) == (name, "random")
    assert (model.crop((160, 120)) is None) == (name == "coca-squash")
