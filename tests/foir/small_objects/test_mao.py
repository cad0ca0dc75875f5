"""Multi-object attention optimisation against its formula and invariants."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from foir import BadPrompt, encoders
from foir.small_objects import legrad, mao
from foir.small_objects.overlap import Targets
from tests.conftest import scene


def some_vectors(count, dim, seed=0):
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


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


def test_it_starts_from_the_mean_of_the_features_as_they_leave_the_model(toy, made):
    crops, masks, owner = made
    tokens = toy.layers[-1](toy.prefix(toy.pixels([scene(i) for i in range(5)])).block.tokens)
    raw = toy.norm(tokens)[:, 0].double()
    torch.testing.assert_close(crops.vectors * crops.lengths, raw, rtol=1e-4, atol=1e-4)
    start = mao.optimise(crops, masks, owner, replace(mao.MODES["paper"], steps=0))
    expected = normalize(torch.stack([raw[:2].mean(0), raw[2:].mean(0)]), dim=-1)
    torch.testing.assert_close(start, expected, rtol=1e-4, atol=1e-4)


def test_a_step_is_small_beside_the_feature_so_that_no_rounding_grows_to_another_vector(photo):
    """One step of 0.1 turns a unit vector of 384 numbers to cosine 0.5."""
    encoder = encoders.load("mini", device="cpu")
    crops = legrad.encode_crops(encoder, encoder.pixels([photo, *(scene(i) for i in range(2))]))
    masks, none = torch.zeros(3, encoder.size, encoder.size), torch.zeros(3, dtype=torch.int64)
    masks[:, 60:120, 80:150] = 1
    first, last = (mao.optimise(crops, masks, none, replace(mao.MODES["paper"], steps=n))[0] for n in (0, 1))
    assert float(first @ last) > 0.99
    turned = torch.tensor([2, 0, 1])
    plain, other = mao.optimise(crops, masks, none), mao.optimise(crops.take(turned), masks[turned], none)
    assert float(plain[0] @ other[0]) > 0.9999


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
