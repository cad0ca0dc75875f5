"""Boxes in two forms are told apart."""

from foir import masks


def test_one_odd_box_does_not_change_how_the_others_are_read():
    boxes = [(10.0, 20.0, 30.0, 40.0)] * 100 + [(5.0, float("nan"), 2.0, 9.0)]
    assert masks.as_corners(boxes)[:100] == boxes[:100]
    assert masks.as_corners([(10, 20, 3, 4)]) == [(10, 20, 13, 24)]
