"""LeGrad maps against autograd, and multi-object attention optimisation against its formula and invariants."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from foir import BadPrompt, Unavailable, encoders
from foir.encoders import siglip
from foir.small_objects import legrad, mao
from foir.small_objects.overlap import Targets
from tests.conftest import scene
from tests.foir.encoders.test_encoders import FAMILIES, small_siglip


def autograd_maps(encoder, pixels, vectors):
    """Spec, section 4, step by step: the gradient of <u, f> with respect to the last block's attention itself."""
    layer = encoder.layers[-1]
    prefix = encoder.prefix(pixels)
    x = prefix.block.tokens.clone()
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_(True)
    with torch.enable_grad():
        pooled = encoder.project(encoder.norm(layer.tail((attention @ v).transpose(1, 2), x).mean(1)))
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


def test_maps_of_siglip_keep_every_column():
    encoder = siglip.wrap(small_siglip(), "t", "r")
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


def test_gradients_pass_through_the_maps_as_through_autograd(toy):
    pixels = toy.pixels([scene(0)])
    crops = legrad.encode_crops(toy, pixels)
    layer, block = toy.layers[-1], toy.prefix(pixels).block
    x = block.tokens.clone()
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_(True)
    weights = torch.rand(1, *toy.grid)
    gradients = []
    for slow in (True, False):
        u = some_vectors(1, 48).requires_grad_(True)
        if slow:
            pooled = toy.project(toy.norm(layer.tail((attention @ v).transpose(1, 2), x).mean(1)))
            (g,) = torch.autograd.grad((normalize(pooled, dim=-1) * u).sum(), attention, create_graph=True)
            maps = g.relu().mean((1, 2))[:, block.first_patch :].view(1, *toy.grid)
        else:
            maps = crops.maps(u)
        gradients.append(torch.autograd.grad((maps * weights).sum(), u)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def test_an_encoder_of_another_form_is_refused(toy):
    layers = [*toy.layers[:-1], replace(toy.layers[-1], ffn=lambda y: y)]
    with pytest.raises(Unavailable, match="another form|form that no"):
        legrad.encode_crops(replace(toy, layers=layers), toy.pixels([scene(0)]))


# Stage B.


@pytest.fixture(scope="module")
def made(toy):
    """Five crops of two pictures, each with a mask; in float64, for eighty steps make much of a rounding."""
    crops = legrad.encode_crops(toy, toy.pixels([scene(i) for i in range(5)]))
    values = {field.name: getattr(crops, field.name) for field in fields(crops)}
    doubled: dict[str, Any] = {n: v.double() if isinstance(v, torch.Tensor) else v for n, v in values.items()}
    crops = legrad.CropFeatures(**doubled)
    masks = torch.zeros(5, 112, 112, dtype=torch.float64)
    for i in range(5):
        masks[i, 10 * i : 10 * i + 40, 20:70] = 1
    return crops, masks, torch.tensor([0, 0, 1, 1, 1])


def score(vector, crops, masks, mode=mao.MODES["paper"]):
    """The paper's objective of one picture, written out."""
    u = normalize(vector, dim=-1)
    total = 0.0
    for i in range(len(crops)):
        one = crops.take(torch.tensor([i]))
        large = torch.nn.functional.interpolate(one.maps(u[None])[None], masks.shape[1:], mode="bilinear")[0, 0]
        e, m = (large - large.min()) / (large.max() - large.min()), masks[i]
        both = (e * m).sum()
        total += float(both / ((e + m).sum() - both) + mode.alpha * (u @ crops.vectors[i]))
    return total


def test_the_objective_is_the_papers(made):
    crops, masks, owner = made
    raw = some_vectors(2, 48).double() * 3
    start = mao.mean_vector(crops.vectors, owner)
    ours = float(mao.objective(raw, crops, Targets.of(masks, crops.grid), owner, mao.MODES["paper"], start))
    parts = [torch.tensor([0, 1]), torch.tensor([2, 3, 4])]
    slow = sum(score(raw[p], crops.take(rows), masks[rows]) for p, rows in enumerate(parts))
    assert ours == pytest.approx(slow, rel=1e-4)


def test_it_rises_far_above_the_mean_of_crops(made):
    crops, masks, owner = made
    best = mao.optimise(crops, masks, owner)
    assert torch.allclose(best.norm(dim=-1), torch.ones(2, dtype=torch.float64))
    for picture, rows in enumerate((torch.tensor([0, 1]), torch.tensor([2, 3, 4]))):
        mine, its = crops.take(rows), masks[rows]
        start = mao.mean_vector(mine.vectors, torch.zeros(len(rows), dtype=torch.int64))[0]
        assert score(best[picture], mine, its) > score(start, mine, its) + 0.05


def test_pictures_in_a_batch_come_out_as_alone(made):
    crops, masks, owner = made
    together = mao.optimise(crops, masks, owner)
    for picture, rows in enumerate((torch.tensor([0, 1]), torch.tensor([2, 3, 4]))):
        alone = mao.optimise(crops.take(rows), masks[rows], torch.zeros(len(rows), dtype=torch.int64))
        assert float(alone[0] @ together[picture]) > 0.999


def test_the_order_of_crops_does_not_matter_and_copies_change_nothing(made):
    """With small steps: of eighty large ones, any rounding makes another path."""
    crops, masks, _ = made
    gentle = replace(mao.MODES["paper"], rate=0.01, steps=20)
    rows, none = torch.tensor([2, 3, 4]), torch.zeros(3, dtype=torch.int64)
    plain = mao.optimise(crops.take(rows), masks[rows], none, gentle)
    turned = torch.tensor([4, 2, 3])
    assert float(plain[0] @ mao.optimise(crops.take(turned), masks[turned], none, gentle)[0]) > 0.999
    one, copies = torch.tensor([1]), torch.tensor([1, 1, 1])
    alone = mao.optimise(crops.take(one), masks[one], none[:1], gentle)
    assert float(alone[0] @ mao.optimise(crops.take(copies), masks[copies], none, gentle)[0]) > 0.999


def test_a_heavy_alignment_keeps_the_mean_of_crops(made):
    crops, masks, owner = made
    kept = mao.optimise(crops, masks, owner, replace(mao.MODES["paper"], alpha=1e4))
    assert (kept * mao.mean_vector(crops.vectors, owner)).sum(-1).min() > 0.999


def test_first_steps_only_rise(made):
    crops, masks, _ = made
    rows, none = torch.tensor([0]), torch.zeros(1, dtype=torch.int64)
    mode = replace(mao.MODES["paper"], alpha=0.0, rate=0.003)
    scores = [
        score(
            mao.optimise(crops.take(rows), masks[rows], none, replace(mode, steps=n))[0],
            crops.take(rows),
            masks[rows],
            mode,
        )
        for n in range(6)
    ]
    assert all(b > a for a, b in zip(scores, scores[1:], strict=False))


def test_the_released_code_gives_a_vector_for_each_crop(made):
    crops, masks, owner = made
    vectors = mao.optimise(crops, masks, owner, mao.MODES["released"])
    assert vectors.shape == (5, 48)
    mode = replace(mao.MODES["released"], per_map=True)
    alone = torch.tensor([3])
    own = mao.optimise(crops.take(alone), masks[alone], torch.tensor([0]), mode)
    assert float(mao.optimise(crops, masks, owner, mode)[3] @ own[0]) > 0.999


@pytest.mark.parametrize("overlap", [Targets.soft_iou, Targets.dice])
def test_a_map_equal_to_its_mask_overlaps_wholly_and_a_disjoint_one_not_at_all(overlap):
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:5, 1:4] = 1
    targets = Targets.of(mask, (8, 8))
    assert float(overlap(targets, mask)) == pytest.approx(1)
    assert float(overlap(targets, 1 - mask)) == pytest.approx(0, abs=1e-6)
    half = mask.clone()
    half[0, :, 2:] = 0
    assert 0 < float(overlap(targets, half)) < 1


@pytest.mark.parametrize(("grid", "size"), [((4, 4), 56), ((16, 16), 224), ((14, 14), 224), ((5, 7), 40), ((3, 3), 3)])
def test_overlaps_from_patches_are_those_of_pixels(grid, size):
    torch.manual_seed(size)
    maps, masks = torch.rand(6, *grid, dtype=torch.float64), (torch.rand(6, size, size) > 0.7).double()
    targets = Targets.of(masks, grid)
    large = torch.nn.functional.interpolate(maps[None], (size, size), mode="bilinear")[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    e = (large - low) / (high - low)
    both, total = (e * masks).sum((1, 2)), (e + masks).sum((1, 2))
    torch.testing.assert_close(targets.soft_iou(targets.normalise(maps)), both / (total - both))
    torch.testing.assert_close(targets.dice(targets.normalise(maps)), 2 * both / total, rtol=1e-5, atol=1e-6)
    together = torch.tensor([0, 0, 1, 1, 1, 2])
    for group in range(3):
        mine = large[together == group]
        e = (mine - mine.min()) / (mine.max() - mine.min())
        both, total = (e * masks[together == group]).sum((1, 2)), (e + masks[together == group]).sum((1, 2))
        ours = targets.soft_iou(targets.normalise(maps, together))[together == group]
        torch.testing.assert_close(ours, both / (total - both))


def test_an_empty_mask_is_named_and_a_mask_at_the_border_is_not(made):
    crops, masks, owner = made
    with pytest.raises(BadPrompt, match="empty mask"):
        mao.optimise(crops, masks * torch.tensor([1, 1, 0, 1, 1])[:, None, None], owner)
    border = torch.zeros_like(masks)
    border[:, 0, 0] = 1
    assert mao.optimise(crops, border, owner).isfinite().all()
    assert mao.optimise(crops, torch.ones_like(masks), owner).isfinite().all()


def test_sixty_objects_make_one_vector(made):
    crops, masks, _ = made
    rows = torch.arange(60) % 5
    vector = mao.optimise(crops.take(rows), masks[rows], torch.zeros(60, dtype=torch.int64))
    assert vector.shape == (1, 48) and vector.isfinite().all()


def test_a_map_that_says_nothing_stays_finite():
    targets = Targets.of(torch.ones(2, 8, 8), (4, 4))
    assert targets.soft_iou(targets.normalise(torch.zeros(2, 4, 4))).isfinite().all()
