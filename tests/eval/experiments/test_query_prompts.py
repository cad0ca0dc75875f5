"""Boxes, jittered boxes, masks and points of a query."""

import numpy as np
import pytest

from eval.datasets.base import Query
from eval.experiments import query_prompts
from foir.patches import rasterise
from foir.prompts import Prompt


def test_points_stand_for_every_patch_on_the_object(made, masked, toy):
    query = masked.queries[0]
    found, oddity = query_prompts.query_prompts(query, 0, (160, 120), toy.grid, prompt="point")
    inside = rasterise(Prompt(mask=query.mask()).fit((160, 120)), (160, 120), toy.grid, rule="center").patches
    assert len(found) == inside.sum() > 4 and oddity == 0
    for (_, mask), (row, col) in zip(found, np.argwhere(inside), strict=True):
        window = np.zeros(toy.grid, bool)
        window[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = True
        np.testing.assert_array_equal(mask.patches, window)


def test_an_outline_is_the_mask_and_the_box_stands_in_for_none(made, masked, toy):
    query = masked.queries[3]
    ((prompt, mask),), _ = query_prompts.query_prompts(query, 3, (160, 120), toy.grid, prompt="segment")
    np.testing.assert_array_equal(mask.pixels, query.mask())
    assert not prompt.only_boxes
    ((_, box),), plain = query_prompts.query_prompts(made.queries[3], 3, (160, 120), toy.grid)
    for way in ("segment", "point"):
        found, oddity = query_prompts.query_prompts(made.queries[3], 3, (160, 120), toy.grid, prompt=way)
        assert (plain, oddity) == (0, query_prompts.NO_OUTLINE)
        covered = np.logical_or.reduce([mask.patches for _, mask in found])
        assert (covered == box.patches).all() if way == "segment" else covered[box.patches].mean() > 0.9


def test_a_careless_hand_moves_and_grows_the_box_as_the_paper_says():
    """A9, A10: x0' = x0 + c - l and x1' = x1 + c + l, so the centre moves by c and the half width grows by l."""
    box = Prompt.box(200, 150, 300, 260)
    drawn = np.array([query_prompts.jittered_box(box, 40, number, 0).boxes[0] for number in range(400)])
    move = (drawn[:, 0] + drawn[:, 2]) / 2 - 250
    grow = (drawn[:, 2] - drawn[:, 0]) / 2 - 50
    assert set(move) <= set(range(-40, 41)) and set(grow) <= set(range(-40, 41))
    assert {move.min(), move.max(), grow.min(), grow.max()} == {-40, 40}
    assert abs(move.mean()) < 5 and abs(grow.mean()) < 5 and abs(np.corrcoef(move, grow)[0, 1]) < 0.15
    again, other = query_prompts.jittered_box(box, 40, 7, 1), query_prompts.jittered_box(box, 40, 7, 2)
    assert query_prompts.jittered_box(box, 40, 7, 1).boxes == again.boxes != other.boxes


def test_a_box_that_noise_turns_or_pushes_out_is_still_a_box(toy):
    tiny = Query(0, Prompt.box(2, 2, 5, 5), 0)
    for number in range(60):
        found, _ = query_prompts.query_prompts(tiny, number, (160, 120), toy.grid, noise=40)
        for prompt, mask in found:
            x0, y0, x1, y1 = prompt.boxes[0]
            assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 120
            assert mask.patches.any()


@pytest.mark.parametrize(
    ("box", "wanted", "oddity"),
    [
        ((-20, -10, 40, 500), (0, 0, 40, 120), 0),
        ((70, 80, 10, 10), (10, 10, 70, 80), query_prompts.NO_EXTENT),
        ((50, 50, 50, 50), (50, 50, 51, 51), query_prompts.NO_EXTENT),
        ((0, 0, 0, 9), (0, 0, 1, 9), query_prompts.NO_EXTENT),
        ((-9, 0, 0, 9), None, query_prompts.LEFT_OUT),
        ((160, 0, 170, 9), None, query_prompts.LEFT_OUT),
        ((0, float("inf"), 5, 9), None, query_prompts.LEFT_OUT),
        ((None, 0, 5, 9), None, query_prompts.LEFT_OUT),
        (("1", "2", "5", "9"), None, query_prompts.LEFT_OUT),
    ],
)
def test_an_odd_box_is_read_or_left_out(toy, box, wanted, oddity):
    found, told = query_prompts.query_prompts(Query(0, Prompt(boxes=(box,)), 0), 0, (160, 120), toy.grid)
    assert told == oddity
    assert [prompt.boxes[0] for prompt, _ in found] == ([] if wanted is None else [wanted])
