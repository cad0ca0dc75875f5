"""LeGrad maps against autograd."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from foir import Unavailable, encoders
from foir.encoders import siglip
from foir.small_objects import legrad, mao
from tests.conftest import scene
from tests.foir.encoders.test_encoders import FAMILIES, small_siglip


def pool(encoder, tokens):
    """As the released code: the feature of the mean token, or without a CLS token the mean of the normed tokens."""
    if encoder.first_patch == 0:
        return encoder.norm(tokens).mean(1)
    return encoder.project(encoder.norm(tokens.mean(1)))


def autograd_maps(encoder, pixels, vectors):
    """Spec, section 4, step by step: the gradient of <u, f> with respect to the last block's attention itself."""
    layer = encoder.layers[-1]
    prefix = encoder.prefix(pixels)
    x = prefix.block.tokens.clone()
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_(True)
    with torch.enable_grad():
        pooled = pool(encoder, layer.tail((attention @ v).transpose(1, 2), x))
        similarity = (normalize(pooled, dim=-1) * vectors).sum()
        (gradient,) = torch.autograd.grad(similarity, attention)
    columns = gradient.relu().mean((1, 2))[:, prefix.block.first_patch :]
    return columns.view(len(pixels), *encoder.grid)


def test_maps_in_bfloat16_are_those_of_float32_but_for_rounding(toy):
    pixels, half = toy.pixels([scene(0)]), encoders.load("toy", device="cpu", dtype="bfloat16")
    plain, rounded = (legrad.encode_crops(one, pixels) for one in (toy, half))
    assert rounded.slopes.dtype == torch.float32
    a, b = (crops.maps(plain.vectors).flatten() for crops in (plain, rounded))
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.99
    masks = torch.zeros(1, 112, 112)
    masks[0, 20:60, 20:60] = 1
    assert mao.optimise(rounded, masks, torch.tensor([0])).isfinite().all()


@pytest.fixture(scope="module")
def siglip_encoder():
    """With a last norm that is not trivial: its scale differs from channel to channel."""
    model = small_siglip()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.post_layernorm.weight.copy_(1 + torch.randn(48, generator=generator) / 2)
        model.post_layernorm.bias.copy_(torch.randn(48, generator=generator) / 3)
    return siglip.wrap(model, "t", "r")


def test_maps_of_siglip_keep_every_column_and_follow_the_mean_of_norms(siglip_encoder):
    encoder = siglip_encoder
    pixels = encoder.pixels([scene(i) for i in range(2)])
    crops, vectors = legrad.encode_crops(encoder, pixels), some_vectors(2, 48)
    expected = autograd_maps(encoder, pixels, vectors)
    assert expected.shape == (2, 6, 6) and expected.max() > 0
    torch.testing.assert_close(crops.maps(vectors), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def some_vectors(count, dim, seed=0):
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_the_gradients_of_autograd(family):
    _, encoder, _ = FAMILIES[family]()
    pixels = encoder.pixels([scene(i) for i in range(3)])
    crops = legrad.encode_crops(encoder, pixels, batch=2)
    vectors = some_vectors(3, crops.vectors.shape[1])
    expected = autograd_maps(encoder, pixels, vectors)
    assert expected.max() > 0
    torch.testing.assert_close(crops.maps(vectors), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
    torch.testing.assert_close(crops.vectors, encoder.finish(encoder.prefix(pixels)).vectors)


def test_maps_of_mini(photo):
    encoder = encoders.load("mini", device="cpu")
    pixels = encoder.pixels([photo])
    crops = legrad.encode_crops(encoder, pixels)
    expected = autograd_maps(encoder, pixels, crops.vectors)
    torch.testing.assert_close(crops.maps(crops.vectors), expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("name", ["toy", "siglip_encoder"])
def test_gradients_pass_through_the_maps_as_through_autograd(name, request):
    encoder = request.getfixturevalue(name)
    pixels = encoder.pixels([scene(0)])
    crops = legrad.encode_crops(encoder, pixels)
    layer, block = encoder.layers[-1], encoder.prefix(pixels).block
    x = block.tokens.clone()
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_(True)
    weights = torch.rand(1, *encoder.grid)
    gradients = []
    for slow in (True, False):
        u = some_vectors(1, 48).requires_grad_(True)
        if slow:
            pooled = pool(encoder, layer.tail((attention @ v).transpose(1, 2), x))
            (g,) = torch.autograd.grad((normalize(pooled, dim=-1) * u).sum(), attention, create_graph=True)
            maps = g.relu().mean((1, 2))[:, block.first_patch :].view(1, *encoder.grid)
        else:
            maps = crops.maps(u)
        gradients.append(torch.autograd.grad((maps * weights).sum(), u)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def test_an_encoder_of_another_form_is_refused(toy):
    layers = [*toy.layers[:-1], replace(toy.layers[-1], ffn=lambda y: y)]
    with pytest.raises(Unavailable, match="another form|form that no"):
        legrad.encode_crops(replace(toy, layers=layers), toy.pixels([scene(0)]))
