"""Artifact attenuation: exactly the planted sinks, an identity where there are none, and the rule's own edges."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from foir import BadPrompt, Prompt
from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules, identity
from foir.methods import intervene, itae
from foir.patches import PatchMask
from tests.conftest import scene

GRID, SIDE, WIDTH, HEADS = 8, 64, 24, 4
SINKS = (3, 17, 40)
MASK, PROMPT = PatchMask.everything((SIDE, SIDE), (GRID, GRID)), Prompt.box(0, 0, SIDE, SIDE)


def encoder(planted):
    """A block of random weights; planted patches carry a huge channel that draws attention and has next to no value."""
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(3 * 64, WIDTH, generator=generator) * 0.1
    q, k, v, out, up, down = (torch.randn(WIDTH, WIDTH, generator=generator) * 0.3 for _ in range(6))
    places = torch.randn(GRID * GRID, WIDTH, generator=generator)  # so that no patch is nearly nothing by itself
    flag = torch.zeros(1 + GRID * GRID)
    flag[[1 + patch for patch in planted]] = 1

    def embed(pixels):
        cells = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(len(pixels), GRID * GRID, -1)
        patches = cells @ mix + places
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        tokens[..., 0] = 60 * flag * (1 + 0.1 * torch.arange(len(flag)) / len(flag))
        return tokens

    def qkv(u):
        sink = u[..., :1] > 10
        plain = torch.cat([torch.zeros_like(u[..., :1]), u[..., 1:]], -1)
        queries = plain @ q
        keys = torch.where(sink, 30 * queries[..., :1, :], plain @ k)
        return queries, keys, torch.where(sink, 0.001, 1.0) * (plain @ v)

    def ffn(y):
        return torch.nn.functional.gelu(y[..., 1:] @ up[1:]) @ down * 0.2

    layer = BlockModules(HEADS, identity, qkv, lambda z: z @ out, identity, ffn)
    return Encoder("sinks", "1", embed, [layer], identity, SIDE, (GRID, GRID))


@pytest.fixture(scope="module")
def pictures():
    return [scene(i, (SIDE, SIDE)) for i in range(40)]


def features(model, pictures, method="cbir", **options):
    prefix = model.prefix(model.pixels(pictures))
    return model.finish(prefix, [intervene(method, PROMPT, MASK, options)]).vectors


def test_it_finds_exactly_the_planted_sinks(pictures):
    model = encoder(SINKS)
    block = model.prefix(model.pixels(pictures)).block
    for i in range(len(pictures)):
        one = block.at(i)
        assert np.flatnonzero(itae.sinks(one, one.logits)).tolist() == list(SINKS)
    found = itae.diagnose(block.at(i) for i in range(len(pictures)))
    assert found is not None and found.share == pytest.approx(3 / 64)
    assert found.before > 0.5 and found.after < 0.05 and found.agreement > 0.9


def test_the_ranking_comes_nearer_to_the_clean_one(pictures):
    clean, dirty = features(encoder(()), pictures), features(encoder(SINKS), pictures)
    mended = features(encoder(SINKS), pictures, "itae")

    def likeness(vectors):
        rows = [spearmanr(vectors @ vectors[i], clean @ clean[i]).statistic for i in range(len(pictures))]
        return np.mean(rows)

    assert likeness(mended) > likeness(dirty) + 0.02


def test_a_clean_model_is_left_untouched(pictures):
    model = encoder(())
    assert torch.equal(features(model, pictures, "itae"), features(model, pictures))
    block = model.prefix(model.pixels(pictures)).block
    assert itae.diagnose(block.at(i) for i in range(len(pictures))) is None


def test_registers_are_a_negative_control(toy, photo):
    prefix = toy.prefix(toy.pixels([photo]))
    mask = PatchMask.everything(photo.size, toy.grid)
    step = intervene("itae", Prompt.box(0, 0, *photo.size), mask)
    assert torch.equal(toy.finish(prefix, [step]).vectors, toy.finish(prefix).vectors)


@pytest.mark.parametrize("component", itae.COMPONENTS)
@pytest.mark.parametrize("side", itae.SIDES)
def test_every_found_patch_gets_its_heads_least_weight(toy, photo, component, side):
    block = toy.prefix(toy.pixels([photo])).block.at(0)
    size = itae.norms(block, component)
    vectors = getattr(block, {"q": "queries", "k": "keys", "v": "values"}[component])
    slow = [float(torch.cat([vectors[h, block.first_patch + i] for h in range(toy.heads)]).norm()) for i in range(64)]
    np.testing.assert_allclose(size, slow, rtol=1e-5)
    threshold = float(size.sort(descending=side == "high").values[4])
    found = itae.sinks(block, block.logits, component, side, threshold)
    assert found.sum() == 5
    weights = itae.silence(block, block.logits, found).softmax(-1)[:, block.first_patch :]
    for head in range(toy.heads):
        np.testing.assert_allclose(weights[head][found], weights[head].min(), rtol=1e-6)
    untouched = itae.silence(block, block.logits, found)[:, : block.first_patch]
    assert torch.equal(untouched, block.logits[:, : block.first_patch])


def test_it_chains_with_head_selection_and_foveal_attention(pictures):
    model = encoder(SINKS)
    prefix = model.prefix(model.pixels(pictures[:1]))
    box = Prompt.box(0, 0, 30, 30)
    from foir.patches import rasterise

    mask = rasterise(box, (SIDE, SIDE), model.grid)
    chained = model.finish(prefix, [intervene("itae|phs", box, mask, {"h_on": 2})])
    assert chained.gates[0] is not None
    sinks = [1 + patch for patch in SINKS]
    assert (chained.attention[0][:, sinks] <= chained.attention[0][:, 1:].amin(-1, keepdim=True) + 1e-7).all()
    other = model.finish(prefix, [intervene("foveal|itae", box, mask)])
    assert (other.attention[0][:, sinks] <= other.attention[0][:, 1:].amin(-1, keepdim=True) + 1e-7).all()


def test_outliers_are_few_and_far():
    size = torch.ones(100) + 0.01 * torch.arange(100) / 100
    size[:20] = 0.01
    size[0] = 0.001
    found = itae.outliers(size, "low")
    assert found[0] and found.sum() <= 20 and not itae.outliers(size, "high").any()
    assert not itae.outliers(torch.linspace(1, 2, 64), "low").any()


def test_unknown_options_are_one_sentence():
    with pytest.raises(BadPrompt, match="not low of x"):
        intervene("itae", PROMPT, MASK, {"component": "x"})
    with pytest.raises(BadPrompt, match="not middle of v"):
        intervene("itae", PROMPT, MASK, {"side": "middle"})
