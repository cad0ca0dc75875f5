"""Windows over the patch grids of all encoders."""

import numpy as np
import pytest

from foir.regions.windows import mask_boxes, window_masks


def test_the_windows_of_a_16_by_16_grid():
    windows = window_masks((16, 16))
    sides = [int(np.sqrt(window.sum())) for window in windows]
    assert sides == [3] * 25 + [5] * 9 + [8] * 9 + [16]


@pytest.mark.parametrize("grid", [(16, 16), (8, 8), (14, 14), (7, 7), (37, 37), (24, 16), (1, 1)])
def test_windows_cover_every_patch_and_touch_the_borders_at_every_size(grid):
    windows = window_masks(grid)
    assert windows.shape[1:] == grid and windows.any((1, 2)).all() and windows[-1].all()
    assert windows[:-1].any(0).all() or grid == (1, 1)
    assert len({window.tobytes() for window in windows}) <= len(windows) <= 44
    boxes = mask_boxes(windows)
    assert (boxes[:, :2] < boxes[:, 2:]).all() and boxes.min() == 0 and boxes.max() == 1
    for sides in {tuple(side) for side in np.round(boxes[:, 2:] - boxes[:, :2], 6).tolist()}:
        same = boxes[(np.round(boxes[:, 2:] - boxes[:, :2], 6) == sides).all(1)]
        assert (same[:, :2].min(0) == 0).all() and (same[:, 2:].max(0) == 1).all()


def test_a_box_is_that_of_its_mask():
    mask = np.zeros((1, 4, 8), bool)
    mask[0, 1:3, 2:7] = True
    np.testing.assert_array_equal(mask_boxes(mask), [[2 / 8, 1 / 4, 7 / 8, 3 / 4]])
