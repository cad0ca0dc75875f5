"""The training losses see what a search sees, and count for and against what they say."""

import numpy as np
import pytest
import torch

from foir import Prompt
from foir.encoders.intervention import PLAIN
from foir.methods import intervene
from foir.mini.training import objectives
from foir.mini.training.objectives import Places
from foir.mini.training.pictures import Things
from foir.patches import rasterise
from foir.regions.ways.masked import masked
from foir.regions.windows import window_masks
from tests.conftest import scene

WINDOWS = torch.from_numpy(window_masks((16, 16)).reshape(44, -1))


@pytest.mark.parametrize("h_on", [3, 5, 12])
def test_training_sees_the_vectors_of_a_search(encoder, h_on):
    pictures = [scene(0), scene(1)]
    boxes = [[(10, 10, 60, 50), (80, 30, 150, 110)], [(5, 60, 90, 118)]]
    areas = [[rasterise(Prompt.box(*box), (160, 120), encoder.grid) for box in row] for row in boxes]
    pixels = encoder.pixels(pictures)
    prefix = encoder.prefix(pixels)
    flat = torch.from_numpy(np.stack([mask.patches.reshape(-1) for row in areas for mask in row]))
    with torch.inference_mode():
        seen = objectives.see(encoder, pixels, 1.0, half=False)
        prompted = seen.prompted(flat, torch.tensor([0, 0, 1]), h_on)
        whole, regions = seen.whole(), seen.masked(WINDOWS.expand(2, -1, -1))
        theirs = masked(encoder, prefix, WINDOWS, None)
    torch.testing.assert_close(whole, encoder.finish(prefix, [PLAIN] * 2).vectors, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(regions, theirs, atol=1e-5, rtol=1e-4)
    place = 0
    for i, row in enumerate(areas):
        for box, mask in zip(boxes[i], row, strict=True):
            step = intervene("phs", Prompt.box(*box), mask, {"h_on": h_on})
            searched = encoder.finish(prefix[i], [step]).vectors[0]
            torch.testing.assert_close(prompted[place], searched, atol=1e-5, rtol=1e-4)
            place += 1


def test_bfloat16_blocks_give_nearly_the_same(encoder):
    pixels = encoder.pixels([scene(2)])
    with torch.inference_mode():
        exact, half = (objectives.see(encoder, pixels, 1.0, half).whole() for half in (False, True))
    assert half.dtype == torch.float32 and float((exact * half).sum()) > 0.999


def test_dropped_patches_leave_the_cls_token_and_the_order():
    tokens = torch.arange(2 * 11.0).reshape(2, 11, 1).expand(-1, -1, 3)
    kept = objectives.drop_patches(tokens, 0.5)
    assert kept.shape == (2, 6, 3) and torch.equal(kept[:, 0], tokens[:, 0])
    assert (kept[:, 1:, 0].diff(dim=1) > 0).all()


@pytest.fixture
def places():
    """Two pictures: a thing of two windows' size on each, of one label, and another label on the second."""
    areas = WINDOWS[[0, 30, 9]].numpy()
    boxes = np.zeros((1, 4), np.float32)
    first = Things(boxes, np.array([7]), areas[:1])
    second = Things(np.zeros((2, 4), np.float32), np.array([7, 8]), areas[1:])
    return Places.of((first, second), WINDOWS)


def test_a_things_best_window_covers_just_it(places):
    assert places.rows.tolist() == [0, 1, 1]
    assert places.best.tolist() == [0, 44 + 30, 44 + 9]
    areas, columns = places.padded(2)
    assert areas.shape == (2, 2, 256) and columns.tolist() == [0, 0, 1]
    assert torch.equal(areas[places.rows, columns], places.areas) and not areas[0, 1].any()


def vectors(places, right=1.0):
    """Windows as unit vectors: those that fit a thing are its label's axis, all others a third axis."""
    windows = torch.zeros(88, 3)
    windows[:, 2] = 1
    for best, label in zip(places.best.tolist(), places.labels.tolist(), strict=True):
        windows[best] = torch.tensor([right * (label == 7), right * (label == 8), (1 - right**2) ** 0.5])
    return windows


def test_finding_the_right_windows_costs_nothing_and_missing_them_much(places):
    queries, scale = torch.eye(3)[[0, 0, 1]], torch.tensor(np.log(50.0))
    same = (places.labels[:, None] == places.labels[None]).float()
    loss = objectives.finding_loss(queries, vectors(places), places, same, scale, own=places.rows)
    assert float(loss) < 1e-6
    worse = objectives.finding_loss(queries, vectors(places, 0.0), places, same, scale, own=places.rows)
    assert float(worse) > 3
    none = objectives.finding_loss(queries[2:], vectors(places), places, same[2:], scale, own=places.rows[2:])
    assert float(none) == 0  # its kind is on no other picture


def test_windows_that_show_a_part_of_what_is_asked_count_neither_way(places):
    query, scale = torch.eye(3)[:1], torch.tensor(3.0)
    relevance = (places.labels == 7).float()[None]
    parts = places.touched[places.labels == 7].any(0)
    parts[places.best[places.labels == 7]] = False
    windows = vectors(places)
    loss = objectives.finding_loss(query, windows, places, relevance, scale)
    changed = windows.clone()
    changed[parts] = torch.tensor([1.0, 0, 0])
    assert parts.sum() > 10
    torch.testing.assert_close(objectives.finding_loss(query, changed, places, relevance, scale), loss)
    wrong = windows.clone()
    wrong[44 + 9] = torch.tensor([1.0, 0, 0])  # another thing looks like it
    assert objectives.finding_loss(query, wrong, places, relevance, scale) > loss + 0.1


def test_what_has_no_box_is_never_wrong_where_boxes_are_incomplete(places):
    query, scale = torch.eye(3)[:1], torch.tensor(3.0)
    relevance = (places.labels == 7).float()[None]
    empty = ~places.touched.any(0)
    windows = vectors(places)
    changed = windows.clone()
    changed[empty] = torch.tensor([1.0, 0, 0])
    for known, moves in ((True, True), (False, False)):
        losses = [
            objectives.finding_loss(query, each, places, relevance, scale, all_known=known)
            for each in (windows, changed)
        ]
        assert (float(losses[1] - losses[0]) > 0.1) is moves
