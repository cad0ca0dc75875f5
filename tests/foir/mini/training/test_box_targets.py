"""What patches learn about boxes, and a box head that learns it."""

import numpy as np
import pytest
import torch

from foir.mini.training.box_targets import Targets, box_loss, overlaps
from foir.segment.box_head import BoxHead

BOXES = np.array([(2, 2, 12, 12), (3, 3, 6, 6), (12, 13, 14, 15)]) / 16


def test_a_patch_learns_the_smallest_box_in_whose_middle_it_lies():
    targets = Targets.of(BOXES, (16, 16))
    assert targets.boxes[7, 7].tolist() == [2, 2, 12, 12]
    assert targets.boxes[4, 4].tolist() == [3, 3, 6, 6]
    assert targets.central[7, 7] and targets.central[4, 4] and targets.central[14, 13]
    assert targets.inside[2, 2] and not targets.central[2, 2]  # in a corner of the large box
    assert targets.outside[0, 0] and not targets.inside[0, 0]
    assert not (targets.outside & (targets.inside | targets.central)).any()
    assert Targets.of(np.zeros((0, 4)), (3, 5)).outside.all()


def test_boxes_too_large_for_a_scale_are_neither_learnt_nor_background():
    targets = Targets.of(np.array([(0, 0, 0.5, 0.5)]), (48, 48))
    assert not targets.central.any() and not targets.inside.any()
    assert int(targets.outside.sum()) == 48 * 48 - 24 * 24


def test_the_loss_is_least_where_boxes_and_fits_are_right():
    targets = Targets.of(BOXES, (16, 16))
    sure = torch.where(targets.inside, 20.0, -20.0)
    background = torch.ones(16, 16)
    right = sum(box_loss(targets.boxes, sure, targets, background))
    assert float(right) < 1e-3
    assert float(sum(box_loss(targets.boxes + 1.0, sure, targets, background))) > 0.3
    assert float(sum(box_loss(targets.boxes, -sure, targets, background))) > 1
    # Where background has no weight, what is predicted there does not matter.
    free = sum(box_loss(targets.boxes, torch.full((16, 16), 20.0), targets, 0 * background))
    assert float(free) == pytest.approx(float(right), abs=1e-3)


def test_overlaps():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]])
    b = torch.tensor([[1.0, 0, 3, 2], [0, 0, 1, 1], [5, 5, 6, 6]])
    torch.testing.assert_close(overlaps(a, b), torch.tensor([1 / 3, 1, 0]))


def test_a_head_learns_where_a_thing_is():
    torch.manual_seed(0)
    head, rng = BoxHead(4), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3)

    def example():
        x0, y0 = rng.integers(1, 8, 2)
        box = np.array([x0, y0, x0 + rng.integers(3, 8), y0 + rng.integers(3, 8)])
        features = torch.zeros(4, 16, 16)
        features[0, box[1] : box[3], box[0] : box[2]] = 1
        return features, box

    for _ in range(150):
        drawn = [example() for _ in range(8)]
        targets = Targets.stack([Targets.of(box[None] / 16, (16, 16)) for _, box in drawn])
        boxes, fits = head(torch.stack([f for f, _ in drawn]))
        place, fit = box_loss(boxes, fits, targets, torch.ones(8, 16, 16))
        loss = place + fit
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = []
    with torch.inference_mode():
        for features, box in (example() for _ in range(20)):
            boxes, fits = head(features[None])
            best = boxes.reshape(-1, 4)[fits.argmax()]
            found.append(float(overlaps(best, torch.tensor(box))))
    assert np.mean(found) > 0.7
