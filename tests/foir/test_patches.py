"""Prompts onto patch grids, against a literal reference in whole numbers."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from foir.errors import BadPrompt
from foir.patches import RULES, PatchMask, coverage, rasterise
from foir.prompts import Prompt, Stroke

SIZE = (160, 120)
SIZES = [(32, 32), (80, 60), (48, 31), (37, 53), (5, 3), (1, 1), (1, 40)]
GRIDS = [(16, 16), (8, 8), (7, 5), (3, 11)]
PAIRS = [pytest.param(size, grid, id=f"{size[0]}x{size[1]}-{grid[0]}x{grid[1]}") for size in SIZES for grid in GRIDS]


@cache
def shares(pixels: int, patches: int) -> list[dict[int, int]]:
    """For each patch along one side: the pixels it shares a stretch with, and how long, in 1/patches of a pixel."""
    found = []
    for patch in range(patches):
        stretch = {}
        for pixel in range(pixels):
            length = min((pixel + 1) * patches, (patch + 1) * pixels) - max(pixel * patches, patch * pixels)
            if length > 0:
                stretch[pixel] = length
        found.append(stretch)
    return found


def covered_area(area: np.ndarray, grid: tuple[int, int]) -> list[list[int]]:
    """Area of each patch that the region covers, where a whole patch has height * width."""
    inside = area.tolist()
    return [
        [
            sum(down * across for y, down in rows.items() for x, across in cols.items() if inside[y][x])
            for cols in shares(area.shape[1], grid[1])
        ]
        for rows in shares(area.shape[0], grid[0])
    ]


def selected(area: np.ndarray, grid: tuple[int, int], rule: str) -> np.ndarray:
    height, width = area.shape
    covered = covered_area(area, grid)
    patches = np.zeros(grid, bool)
    for row in range(grid[0]):
        for col in range(grid[1]):
            if rule == "any":
                patches[row, col] = covered[row][col] > 0
            elif rule == "majority":
                patches[row, col] = 2 * covered[row][col] >= height * width
            else:
                centre = (2 * row + 1) * height // (2 * grid[0]), (2 * col + 1) * width // (2 * grid[1])
                patches[row, col] = area[centre]
    if not patches.any():
        ys, xs = np.nonzero(area)
        row = (2 * int(ys.sum()) + ys.size) * grid[0] // (2 * ys.size * height)
        col = (2 * int(xs.sum()) + xs.size) * grid[1] // (2 * xs.size * width)
        patches[row, col] = True
    return patches


def box_pixels(box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    area = np.zeros((size[1], size[0]), bool)
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            area[y, x] = True
    return area


def random_box(random: np.random.Generator, size: tuple[int, int]) -> tuple[int, int, int, int]:
    x0, x1 = sorted(random.choice(size[0] + 1, 2, replace=False).tolist())
    y0, y1 = sorted(random.choice(size[1] + 1, 2, replace=False).tolist())
    return x0, y0, x1, y1


def of_box(box: tuple[float, float, float, float], size: tuple[int, int], grid: tuple[int, int], **how) -> PatchMask:
    return rasterise(Prompt.box(*box).fit(size), size, grid, **how)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_random_boxes_select_what_the_reference_selects(size, grid, rule):
    random = np.random.default_rng([*size, *grid, RULES.index(rule)])
    for _ in range(6):
        box = random_box(random, size)
        region = of_box(box, size, grid, rule=rule)
        area = box_pixels(box, size)
        assert np.array_equal(region.pixels, area), box
        assert np.array_equal(region.patches, selected(area, grid, rule)), box


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_random_masks_select_what_the_reference_selects(size, grid, rule):
    random = np.random.default_rng([*size, *grid, RULES.index(rule), 1])
    for density in (0.02, 0.5, 0.9):
        area = random.random((size[1], size[0])) < density
        area[random.integers(size[1]), random.integers(size[0])] = True
        region = rasterise(Prompt(mask=area).fit(size), size, grid, rule=rule)
        assert np.array_equal(region.pixels, area)
        assert np.array_equal(region.patches, selected(area, grid, rule))


def test_fractional_box_takes_every_pixel_and_patch_it_touches():
    region = of_box((19.9, 14.5, 40.1, 30.5), SIZE, (8, 8))
    assert region.box == (19, 14, 41, 31)
    assert np.argwhere(region.patches).tolist() == [[r, c] for r in (0, 1, 2) for c in (0, 1, 2)]


@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_coverage_is_exact(size, grid):
    random = np.random.default_rng([*size, *grid, 2])
    for area in (
        random.random((size[1], size[0])) < 0.4,
        box_pixels(random_box(random, size), size),
        np.ones((size[1], size[0]), bool),
        np.zeros((size[1], size[0]), bool),
    ):
        expected = np.array(covered_area(area, grid)) / (size[0] * size[1])
        covered = coverage(area, grid)
        assert covered.shape == grid
        np.testing.assert_allclose(covered, expected, rtol=0, atol=1e-6)


def test_coverage_where_patches_cut_pixels():
    area = np.array([[True, False, False]])
    np.testing.assert_allclose(coverage(area, (1, 2)), [[2 / 3, 0]], atol=1e-7)
    np.testing.assert_allclose(coverage(area, (2, 4)), [[1, 1 / 3, 0, 0]] * 2, atol=1e-7)


@pytest.mark.parametrize("side", [32, 92, 150, 164, 178, 184, 256])
def test_patch_that_is_exactly_half_covered_counts_as_majority(side):
    region = of_box((0, 0, side // 2, side), (side, side), (3, 3), rule="majority")
    assert region.patches.tolist() == [[True, True, False]] * 3


@pytest.mark.parametrize("less", [1, 5])
def test_patch_that_misses_half_by_a_pixel_is_no_majority(less):
    mask = np.zeros((120, 160), bool)
    mask[:15, :10] = True
    mask.flat[np.arange(less) * 160] = False
    mask[60:, 80:] = True
    region = rasterise(Prompt(mask=mask).fit(SIZE), SIZE, (8, 8), rule="majority")
    assert not region.patches[0, 0]
    assert region.patches.sum() == 16


def test_any_sees_a_single_pixel_that_barely_reaches_into_a_patch_of_a_large_photo():
    size, side = (4000, 3000), 37
    col = next(i for i in range(1, side) if i * size[0] % side == side - 1)
    row = next(i for i in range(1, side) if i * size[1] % side == side - 1)
    x, y = col * size[0] // side, row * size[1] // side
    region = of_box((x, y, x + 1, y + 1), size, (side, side))
    expected = [[row - 1, col - 1], [row - 1, col], [row, col - 1], [row, col]]
    assert np.argwhere(region.patches).tolist() == expected


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_any_one_pixel_selects_patches_under_every_rule(size, grid, rule):
    random = np.random.default_rng([*size, *grid, 3])
    for _ in range(4):
        x, y = int(random.integers(size[0])), int(random.integers(size[1]))
        region = of_box((x, y, x + 1, y + 1), size, grid, rule=rule)
        assert region.box == (x, y, x + 1, y + 1)
        assert region.patches.any()
        for row, col in np.argwhere(region.patches):
            assert y in shares(size[1], grid[0])[row]
            assert x in shares(size[0], grid[1])[col]


@pytest.mark.parametrize("rule", ["majority", "center"])
def test_tiny_box_falls_back_to_the_patch_of_its_centroid(rule):
    region = of_box((41, 46, 43, 48), SIZE, (8, 8), rule=rule)
    assert np.argwhere(region.patches).tolist() == [[3, 2]]
    assert region.box == (41, 46, 43, 48)


@pytest.mark.parametrize("rule", ["majority", "center"])
def test_centroid_of_two_tiny_boxes_lies_between_them(rule):
    prompt = Prompt(boxes=((1, 1, 3, 3), (121, 61, 123, 63))).fit(SIZE)
    assert np.argwhere(rasterise(prompt, SIZE, (8, 8), rule=rule).patches).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("box", "corner"),
    [((0, 0, 0, 0), (0, 0)), ((160, 0, 160, 0), (0, 7)), ((0, 120, 0, 120), (7, 0)), ((160, 120, 160, 120), (7, 7))],
)
@pytest.mark.parametrize("rule", RULES)
def test_box_of_no_area_in_a_corner_selects_the_corner_patch(box, corner, rule):
    assert np.argwhere(of_box(box, SIZE, (8, 8), rule=rule).patches).tolist() == [list(corner)]


@pytest.mark.parametrize(
    ("size", "grid", "box", "rows", "cols"),
    [
        ((160, 120), (8, 8), (20, 15, 40, 30), [1], [1]),
        ((160, 120), (8, 8), (20, 15, 41, 31), [1, 2], [1, 2]),
        ((160, 120), (8, 8), (19, 14, 40, 30), [0, 1], [0, 1]),
        ((518, 518), (37, 37), (14, 14, 28, 28), [1], [1]),
        ((518, 518), (37, 37), (490, 504, 504, 518), [36], [35]),
        ((600, 300), (3, 7), (0, 100, 50, 200), [1], [0]),
        ((70, 49), (7, 7), (30, 21, 31, 22), [3], [3]),
    ],
)
def test_any_takes_no_patch_that_the_box_only_borders_on(size, grid, box, rows, cols):
    region = of_box(box, size, grid)
    assert np.argwhere(region.patches).tolist() == [[row, col] for row in rows for col in cols]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_box_of_the_whole_picture_selects_everything(size, grid, rule):
    region = of_box((0, 0, *size), size, grid, rule=rule)
    assert region.patches.shape == grid
    assert region.patches.all()
    assert region.pixels.all()


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize(
    ("point", "centre"),
    [
        ((0, 0), (0, 0)),
        ((160, 0), (0, 7)),
        ((0, 120), (7, 0)),
        ((160, 120), (7, 7)),
        ((70, 50), (3, 3)),
        ((25, 110), (7, 1)),
    ],
)
def test_point_selects_its_window_clipped_at_the_border(point, centre, window):
    region = rasterise(Prompt.point(*point).fit(SIZE), SIZE, (8, 8), window=window)
    reach = window // 2
    expected = [
        [row, col]
        for row in range(8)
        for col in range(8)
        if abs(row - centre[0]) <= reach and abs(col - centre[1]) <= reach
    ]
    assert np.argwhere(region.patches).tolist() == expected
    assert np.array_equal(region.pixels, region.patches.repeat(15, 0).repeat(20, 1))


@pytest.mark.parametrize(
    ("x", "col"), [(0, 0), (19.999, 0), (20, 1), (20.001, 1), (39.999, 1), (40, 2), (159.999, 7), (160, 7)]
)
def test_point_belongs_to_the_patch_that_starts_at_it(x, col):
    region = rasterise(Prompt.point(x, 60).fit(SIZE), SIZE, (8, 8), window=1)
    assert np.argwhere(region.patches).tolist() == [[4, col]]


def test_window_larger_than_the_grid_is_the_whole_picture():
    region = rasterise(Prompt.point(3, 110).fit(SIZE), SIZE, (4, 6), window=13)
    assert region.patches.all()
    assert region.pixels.all()


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(("size", "grid"), PAIRS)
def test_pixels_of_a_point_are_all_that_its_patches_touch(size, grid, window):
    random = np.random.default_rng([*size, *grid, window])
    for x, y in random.random((4, 2)) * size:
        region = rasterise(Prompt.point(x, y).fit(size), size, grid, window=window)
        expected = np.zeros((size[1], size[0]), bool)
        for row, col in np.argwhere(region.patches):
            for down in shares(size[1], grid[0])[row]:
                for across in shares(size[0], grid[1])[col]:
                    expected[down, across] = True
        assert region.patches[int(y / size[1] * grid[0]), int(x / size[0] * grid[1])]
        assert np.array_equal(region.pixels, expected)


@pytest.mark.parametrize("rule", ["any", "majority"])
def test_point_adds_its_window_to_what_the_rule_took_of_the_box(rule):
    box, point = Prompt.box(20, 15, 45, 33), Prompt.point(150, 110)
    both = Prompt(point.points, box.boxes).fit(SIZE)
    region = rasterise(both, SIZE, (8, 8), rule=rule, window=3)
    of_point = rasterise(point.fit(SIZE), SIZE, (8, 8), rule=rule, window=3)
    expected = of_box((20, 15, 45, 33), SIZE, (8, 8), rule=rule)
    assert np.array_equal(region.patches, of_point.patches | expected.patches)
    assert np.array_equal(region.pixels, of_point.pixels | expected.pixels)
    assert region.patches.sum() == of_point.patches.sum() + expected.patches.sum()


@pytest.mark.parametrize("rule", RULES)
def test_stroke_selects_by_rule_from_the_pixels_it_painted(rule):
    prompt = Prompt(strokes=(Stroke(((10, 20), (90, 70), (150, 15)), 12),)).fit(SIZE)
    for grid in GRIDS:
        region = rasterise(prompt, SIZE, grid, rule=rule)
        assert 1000 < region.pixels.sum() < 4000
        assert np.array_equal(region.patches, selected(region.pixels, grid, rule))


@pytest.mark.parametrize("window", [0, 2, 4, -1, -2])
@pytest.mark.parametrize("prompt", [Prompt.point(5, 5), Prompt.box(1, 1, 9, 9)], ids=["point", "box"])
def test_window_that_is_not_a_positive_odd_number_is_refused(prompt, window):
    with pytest.raises(BadPrompt, match=rf"odd number of patches, not {window}\.$"):
        rasterise(prompt.fit(SIZE), SIZE, (8, 8), window=window)


@pytest.mark.parametrize("rule", ["all", "", "Any", "centre"])
def test_unknown_rule_is_refused_and_the_known_ones_are_named(rule):
    with pytest.raises(BadPrompt, match="any, majority, center") as caught:
        of_box((1, 1, 9, 9), SIZE, (8, 8), rule=rule)
    assert repr(rule) in str(caught.value)


def test_default_is_any_with_a_window_of_three():
    prompt = Prompt(((70, 50),), ((19, 14, 40, 30),)).fit(SIZE)
    default = rasterise(prompt, SIZE, (8, 8))
    named = rasterise(prompt, SIZE, (8, 8), rule="any", window=3)
    assert np.array_equal(default.patches, named.patches)
    assert default.patches.sum() == 4 + 9


def test_box_of_a_region_is_the_smallest_around_all_of_its_parts():
    prompt = Prompt(boxes=((50, 20, 60, 25), (10, 90, 12, 95))).fit(SIZE)
    region = rasterise(prompt, SIZE, (8, 8))
    assert region.box == (10, 20, 60, 95)
    assert all(type(side) is int for side in region.box)


def test_box_and_size_of_a_hand_made_region():
    pixels = np.zeros((7, 9), bool)
    pixels[6, 8] = True
    region = PatchMask(np.ones((1, 1), bool), pixels)
    assert region.box == (8, 6, 9, 7)
    assert region.size == (9, 7)


def test_everything_is_every_patch_and_every_pixel():
    region = PatchMask.everything((9, 7), (3, 4))
    assert region.patches.shape == (3, 4)
    assert region.pixels.shape == (7, 9)
    assert region.patches.all()
    assert region.pixels.all()
    assert region.size == (9, 7)
    assert region.box == (0, 0, 9, 7)


@pytest.mark.parametrize("crop", [(slice(0, 120), slice(20, 140)), (slice(30, 90), slice(0, 160))])
def test_a_crop_is_a_picture_of_its_own(crop):
    """Whatever lies inside it is where it would be on the cut picture."""
    left, top = crop[1].start, crop[0].start
    size = (crop[1].stop - left, crop[0].stop - top)
    mask = np.zeros((120, 160), bool)
    mask[50:60, 100:111] = True
    whole = Prompt(((50, 40), (1, 1)), ((0, 0, 45, 60),), (Stroke(((60, 45), (90, 80)), 6),), mask).fit(SIZE)
    region = rasterise(whole, SIZE, (4, 4), crop=crop)
    flat = rasterise(replace(whole, points=()), SIZE, (4, 4)).pixels
    points = tuple((x - left, y - top) for x, y in whole.points if x >= left and y >= top)
    cut = rasterise(Prompt(points, mask=flat[crop]).fit(size), size, (4, 4))
    assert np.array_equal(region.patches, cut.patches) and np.array_equal(region.pixels, cut.pixels)
    assert region.size == size


def test_what_lies_outside_a_crop_is_refused():
    crop = (slice(0, 120), slice(40, 120))
    for prompt in (Prompt.box(0, 0, 40, 120), Prompt.point(39.9, 5), Prompt.box(120, 0, 160, 120)):
        with pytest.raises(BadPrompt, match="point nearer"):
            rasterise(prompt.fit(SIZE), SIZE, (4, 4), crop=crop)
    assert rasterise(Prompt.box(0, 0, 40.1, 120).fit(SIZE), SIZE, (4, 4), crop=crop).patches[:, 0].all()
