"""Overlaps computed from patches are those of full-resolution maps."""

import pytest
import torch

from foir.small_objects.overlap import Targets


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


def test_a_map_that_says_nothing_stays_finite():
    targets = Targets.of(torch.ones(2, 8, 8), (4, 4))
    assert targets.soft_iou(targets.normalise(torch.zeros(2, 4, 4))).isfinite().all()
