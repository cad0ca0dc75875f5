"""Odd prompts: what is repaired, to what exactly, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from foir import patches
from foir.errors import BadPrompt
from foir.prompts import MAX_MARKS, Prompt, Stroke, axis_span, bounds
from tests.foir.test_images import as_stored

WIDTH, HEIGHT = SIZE = (160, 120)
GRID = (8, 8)


def pixels(prompt: Prompt, size: tuple[int, int] = SIZE, orientation: int = 1) -> np.ndarray:
    return patches.rasterise(prompt.fit(size, orientation=orientation), size, GRID).pixels


def fitted_mask(prompt: Prompt, size: tuple[int, int] = SIZE, orientation: int = 1) -> np.ndarray:
    mask = prompt.fit(size, orientation=orientation).mask
    assert mask is not None
    return mask


def stroke(*path: tuple[float, float], width: float = 10.0) -> Prompt:
    return Prompt(strokes=(Stroke(path, width),))


def refusal(prompt: Prompt, size: tuple[int, int] = SIZE, orientation: int = 1) -> str:
    with pytest.raises(BadPrompt) as caught:
        prompt.fit(size, orientation=orientation)
    text = str(caught.value)
    assert text.isprintable()
    assert text.endswith(".")
    assert ". " not in text
    return text


REFUSED: dict[str, tuple[Prompt, str]] = {
    "empty": (Prompt(), "Nothing is pointed at"),
    "point-nan": (Prompt.point(math.nan, 5), "not a finite number"),
    "point-inf": (Prompt.point(5, math.inf), "not a finite number"),
    "point-minus-inf": (Prompt.point(-math.inf, 5), "not a finite number"),
    "point-left": (Prompt.point(-0.01, 5), "outside the picture of 160 x 120"),
    "point-above": (Prompt.point(5, -3), "outside the picture of 160 x 120"),
    "point-right": (Prompt.point(160.01, 5), "outside the picture of 160 x 120"),
    "point-below": (Prompt.point(5, 121), "outside the picture of 160 x 120"),
    "point-huge": (Prompt.point(1e300, 5), "outside the picture of 160 x 120"),
    "point-text": (Prompt(points=(("a", "b"),)), "not coordinates"),  # type: ignore[arg-type]
    "point-none": (Prompt(points=((None, 1),)), "not coordinates"),  # type: ignore[arg-type]
    "one-point-of-two": (Prompt(points=((5, 5), (-5, 5))), "outside the picture of 160 x 120"),
    "box-nan": (Prompt.box(0, 0, math.nan, 10), "not a finite number"),
    "box-inf": (Prompt.box(0, 0, math.inf, 10), "not a finite number"),
    "box-left": (Prompt.box(-30, 0, -1, 10), "outside the picture of 160 x 120"),
    "box-right": (Prompt.box(161, 0, 200, 10), "outside the picture of 160 x 120"),
    "box-above": (Prompt.box(0, -9, 10, -1), "outside the picture of 160 x 120"),
    "box-below": (Prompt.box(0, 120.5, 10, 130), "outside the picture of 160 x 120"),
    "box-swapped-outside": (Prompt.box(300, 40, 200, 10), "outside the picture of 160 x 120"),
    "stroke-outside": (stroke((-100, 5), (-50, 90), width=20), "outside the picture of 160 x 120"),
    "stroke-below": (stroke((5, 126), width=10), "outside the picture of 160 x 120"),
    "stroke-no-point": (stroke(), "at least one point"),
    "stroke-width-zero": (stroke((5, 5), width=0), "wider than 0"),
    "stroke-width-negative": (stroke((5, 5), width=-3), "wider than -3"),
    "stroke-width-nan": (stroke((5, 5), width=math.nan), "not a finite number"),
    "stroke-width-inf": (stroke((5, 5), width=math.inf), "not a finite number"),
    "stroke-point-nan": (stroke((5, 5), (math.nan, 6)), "not a finite number"),
    "mask-no-size": (Prompt(mask=np.zeros((0, 0))), r"[H, W]"),
    "mask-no-width": (Prompt(mask=np.zeros((120, 0), bool)), r"[H, W]"),
    "mask-zero": (Prompt(mask=np.zeros((120, 160), np.uint8)), "selects no pixel"),
    "mask-false": (Prompt(mask=np.zeros((120, 160), bool)), "selects no pixel"),
    "mask-negative": (Prompt(mask=np.full((120, 160), -1.0)), "selects no pixel"),
    "mask-nan": (Prompt(mask=np.full((120, 160), np.nan)), "not finite numbers"),
    "mask-one-nan": (Prompt(mask=np.where(np.eye(120, 160) * np.arange(160) == 7, np.nan, 1.0)), "not finite numbers"),
    "mask-inf": (Prompt(mask=np.full((120, 160), np.inf)), "not finite numbers"),
    "mask-3d": (Prompt(mask=np.ones((120, 160, 3))), "(120, 160, 3)"),
    "mask-1d": (Prompt(mask=np.ones(160)), "(160,)"),
    "mask-complex": (Prompt(mask=np.ones((120, 160), complex)), "complex128"),
    "mask-objects": (Prompt(mask=np.ones((120, 160), object)), "object"),
    "mask-text": (Prompt(mask=np.full((120, 160), "1")), "<U1"),
    "mask-square": (Prompt(mask=np.ones((100, 100))), "mask is 100 x 100 but the picture is 160 x 120"),
    "mask-turned-upright-photo": (Prompt(mask=np.ones((160, 120))), "mask is 120 x 160"),
    "mask-slightly-wide": (Prompt(mask=np.ones((120, 163))), "mask is 163 x 120"),
    "good-point-bad-mask": (Prompt(points=((5, 5),), mask=np.zeros((120, 160))), "selects no pixel"),
}


@pytest.mark.parametrize(("prompt", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_prompt_without_a_clear_meaning_is_refused_in_one_sentence(prompt, reason):
    assert reason in refusal(prompt)


@pytest.mark.parametrize("shape", [(160, 123), (160, 117), (163, 120), (157, 120)])
def test_mask_a_few_percent_off_the_aspect_of_a_tall_photo_is_refused(shape):
    assert f"mask is {shape[1]} x {shape[0]}" in refusal(Prompt(mask=np.ones(shape)), (120, 160))


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_mask_with_swapped_sides_is_refused_when_the_photo_was_not_laid_on_its_side(orientation):
    assert "mask is 120 x 160" in refusal(Prompt(mask=np.ones((160, 120))), orientation=orientation)


BOXES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "inside": ((10.5, 20.25, 30, 40), (10.5, 20.25, 30, 40)),
    "swapped-x": ((30, 20, 10, 40), (10, 20, 30, 40)),
    "swapped-both": ((30, 40, 10, 20), (10, 20, 30, 40)),
    "over-top-left": ((-5, -7, 10, 12), (0, 0, 10, 12)),
    "over-bottom-right": ((150, 100, 999, 999), (150, 100, 160, 120)),
    "exactly-the-picture": ((0, 0, 160, 120), (0, 0, 160, 120)),
    "around-the-picture": ((-1, -1, 161, 121), (0, 0, 160, 120)),
    "huge-swapped": ((1e300, 1e300, -1e300, -1e300), (0, 0, 160, 120)),
    "left-border": ((-10, 5, 0, 15), (0, 5, 1, 15)),
    "right-border": ((160, 5, 170, 15), (159, 5, 160, 15)),
    "bottom-border": ((5, 120, 15, 120), (5, 119, 15, 120)),
    "no-area": ((50, 60, 50, 60), (50, 60, 51, 61)),
    "no-width": ((50, 60, 50, 90), (50, 60, 51, 90)),
    "no-area-at-origin": ((0, 0, 0, 0), (0, 0, 1, 1)),
    "no-area-at-far-corner": ((160, 120, 160, 120), (159, 119, 160, 120)),
    "sub-pixel": ((10.2, 20.6, 10.4, 20.7), (10, 20, 11, 21)),
    "sub-pixel-over-an-edge": ((10.7, 20, 11.5, 30), (11, 20, 12, 30)),
    "sliver-inside": ((159.9, 0, 200, 2), (159, 0, 160, 2)),
}


@pytest.mark.parametrize(("box", "expected"), BOXES.values(), ids=BOXES.keys())
def test_box_is_repaired_to_this_box(box, expected):
    assert Prompt.box(*box).fit(SIZE).boxes == (expected,)


def test_sub_pixel_box_selects_the_pixel_it_lies_in():
    selected = pixels(Prompt.box(10.2, 20.6, 10.4, 20.7))
    assert np.argwhere(selected).tolist() == [[20, 10]]


@pytest.mark.parametrize(
    ("point", "pixel"),
    [
        ((0, 0), (0, 0)),
        ((-0.0, 7.5), (0, 7)),
        ((159.5, 119.5), (159, 119)),
        ((160, 5), (159, 5)),
        ((5, 120), (5, 119)),
        ((160, 120), (159, 119)),
    ],
)
def test_point_on_any_border_falls_into_a_pixel_of_the_picture(point, pixel):
    ((x, y),) = Prompt.point(*point).fit(SIZE).points
    assert (math.floor(x), math.floor(y)) == pixel


def test_point_inside_is_not_moved():
    assert Prompt.point(12.25, 99).fit(SIZE).points == ((12.25, 99.0),)


def test_one_pixel_picture_takes_every_kind_of_mark():
    prompt = Prompt(((1, 1),), ((0, 0, 1, 1),), (Stroke(((0.5, 0.5),), 1),), np.ones((1, 1)))
    assert pixels(prompt, (1, 1)).tolist() == [[True]]


def test_stroke_of_one_point_is_a_disc_of_the_brush():
    selected = pixels(stroke((50, 60), width=20))
    assert selected.sum() == pytest.approx(math.pi * 10**2, rel=0.15)
    assert np.abs(np.subtract(bounds(selected), (40, 50, 60, 70))).max() <= 1


def test_stroke_follows_its_path_with_its_width():
    selected = pixels(stroke((20, 30), (100, 30), (100, 90), width=8))
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    across = np.hypot(xs - np.clip(xs, 20, 100), ys - 30)
    down = np.hypot(xs - 100, ys - np.clip(ys, 30, 90))
    distance = np.minimum(across, down)
    assert selected[distance < 2.5].all()
    assert not selected[distance > 5.5].any()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("corner", [(0, 0), (160, 0), (0, 120), (160, 120)])
def test_thin_tap_on_a_corner_of_the_picture_selects_the_corner_pixel(corner, width):
    selected = pixels(stroke(corner, width=width))
    assert selected[min(corner[1], HEIGHT - 1), min(corner[0], WIDTH - 1)]
    assert selected.sum() <= 4


def test_stroke_beside_the_picture_reaches_in_by_its_width():
    selected = pixels(stroke((-5, 60), width=20))
    x0, y0, x1, y1 = bounds(selected)
    assert x0 == 0
    assert x1 in (5, 6)
    assert y0 + y1 == pytest.approx(120, abs=2)


def test_stroke_that_only_passes_the_corner_is_refused_when_drawn():
    with pytest.raises(BadPrompt, match="beside the picture"):
        pixels(stroke((-30, 10), (10, -30), width=4))


def test_stroke_with_far_ends_on_both_sides_crosses_the_picture():
    selected = pixels(stroke((-1e300, 60), (1e300, 60), width=4))
    assert selected[58:62].all(axis=1).sum() >= 3
    assert not selected[:57].any()
    assert not selected[63:].any()


@pytest.mark.parametrize("width", [500, 1e300])
@pytest.mark.parametrize("at", [(0, 0), (10, 10), (160, 120)])
def test_brush_wider_than_the_picture_covers_all_of_it(at, width):
    assert pixels(stroke(at, width=width)).all()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(points=((1.0, 2.0),) * (MAX_MARKS + 1)),
        Prompt(boxes=((1.0, 2.0, 3.0, 4.0),) * (MAX_MARKS + 1)),
        stroke(*((1.0, 2.0),) * (MAX_MARKS + 1)),
        Prompt(((1.0, 2.0),) * 4000, ((1.0, 2.0, 3.0, 4.0),) * 4000, (Stroke(((1.0, 2.0),) * 2001),)),
    ],
    ids=["points", "boxes", "stroke", "together"],
)
def test_ten_thousand_and_one_marks_are_refused(prompt):
    assert "10001 marks; the limit is 10000" in refusal(prompt)


def test_ten_thousand_marks_are_taken():
    assert len(Prompt(points=((1.0, 2.0),) * MAX_MARKS).fit(SIZE).points) == 10_000


def disc(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A lopsided region: a disc in the upper left part and a bar at the right border."""
    ys, xs = np.mgrid[: size[1], : size[0]]
    region = (xs - size[0] * 0.3) ** 2 + (ys - size[1] * 0.25) ** 2 < (size[1] * 0.2) ** 2
    region[size[1] // 2 : size[1] // 2 + 3, -size[0] // 4 :] = True
    return region


@pytest.mark.parametrize(
    "scale",
    [
        lambda region: region,
        lambda region: region.astype(np.uint8),
        lambda region: region.astype(np.uint8) * np.uint8(255),
        lambda region: region.astype(np.int64) * 7,
        lambda region: region.astype(np.float32),
        lambda region: region * 1e-3,
        lambda region: region * 0.5 + 0.2,
        lambda region: np.asfortranarray(region),
        lambda region: np.flip(np.flip(region, 0).copy(), 0),
    ],
    ids=["bool", "0-1", "0-255", "0-7", "float", "small-float", "soft", "fortran", "negative-stride"],
)
def test_mask_means_the_same_in_every_number_format(scale):
    fitted = fitted_mask(Prompt(mask=scale(disc())))
    assert fitted.dtype == bool
    assert np.array_equal(fitted, disc())


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        (np.array([[0.0, 0.4, 0.5, 0.51, 1.0]]), [False, False, False, True, True]),
        (np.array([[0, 100, 127, 128, 255]], np.uint8), [False, False, False, True, True]),
        (np.array([[-9, 0, 1, 2, 2]], np.int8), [False, False, False, True, True]),
    ],
    ids=["float", "uint8", "int8"],
)
def test_soft_mask_is_cut_at_half_of_its_largest_value(values, inside):
    assert fitted_mask(Prompt(mask=values), (5, 1)).tolist() == [inside]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_smaller_mask_of_the_same_aspect_is_blown_up_in_place(factor):
    small = disc((32, 24))
    fitted = fitted_mask(Prompt(mask=small), (32 * factor, 24 * factor))
    assert np.array_equal(fitted, small.repeat(factor, 0).repeat(factor, 1))


def test_larger_mask_of_the_same_aspect_is_shrunk_in_place():
    blocks = disc((32, 24))
    assert np.array_equal(fitted_mask(Prompt(mask=blocks.repeat(5, 0).repeat(5, 1)), (32, 24)), blocks)


@pytest.mark.parametrize("shape", [(75, 100), (76, 100), (74, 100)])
def test_mask_off_by_the_rounding_of_a_resize_is_taken(shape):
    assert fitted_mask(Prompt(mask=np.ones(shape)), (1000, 750)).shape == (750, 1000)


@pytest.mark.parametrize(("x", "y"), [(203, 117), (0, 0), (399, 299), (7, 291)])
def test_lone_pixel_survives_the_shrinking_of_its_mask(x, y):
    mask = np.zeros((300, 400), np.uint8)
    mask[y, x] = 255
    fitted = fitted_mask(Prompt(mask=mask), (40, 30))
    assert np.argwhere(fitted).tolist() == [[y // 10, x // 10]]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_mask_drawn_on_the_stored_pixels_turns_with_the_photo(orientation):
    stored = as_stored(disc(), orientation)
    assert stored.shape == (WIDTH, HEIGHT)
    assert np.array_equal(fitted_mask(Prompt(mask=stored), SIZE, orientation=orientation), disc())


@pytest.mark.parametrize(
    ("orientation", "stored", "upright"),
    [
        (6, (0, 0), (119, 0)),
        (6, (159, 0), (119, 159)),
        (6, (7, 2), (117, 7)),
        (8, (0, 0), (0, 159)),
        (8, (159, 0), (0, 0)),
        (8, (7, 2), (2, 152)),
    ],
)
def test_single_stored_pixel_lands_here_once_the_photo_is_upright(orientation, stored, upright):
    """Pixels are (x, y); the photo is 160 x 120 in the file and 120 x 160 upright."""
    mask = np.zeros((120, 160), bool)
    mask[stored[1], stored[0]] = True
    fitted = fitted_mask(Prompt(mask=mask), (120, 160), orientation=orientation)
    assert np.argwhere(fitted).tolist() == [[upright[1], upright[0]]]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_small_mask_on_the_stored_pixels_is_turned_and_blown_up(orientation):
    small = disc((32, 24))
    fitted = fitted_mask(Prompt(mask=as_stored(small, orientation)), (96, 72), orientation=orientation)
    assert np.array_equal(fitted, small.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mask_of_the_upright_size_is_never_turned(orientation):
    assert np.array_equal(fitted_mask(Prompt(mask=disc()), SIZE, orientation=orientation), disc())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_small_mask_of_the_exact_upright_aspect_is_not_turned_on_a_nearly_square_photo(orientation):
    small = np.zeros((101, 100), bool)
    small[3:9, 70:95] = True
    fitted = fitted_mask(Prompt(mask=small), (1000, 1010), orientation=orientation)
    assert np.array_equal(fitted, small.repeat(10, 0).repeat(10, 1))


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
def test_mask_of_a_square_photo_means_the_same_in_every_size(orientation):
    small = np.zeros((30, 30), bool)
    small[2:9, 20:25] = True
    large = small.repeat(3, 0).repeat(3, 1)
    assert np.array_equal(fitted_mask(Prompt(mask=large), (90, 90), orientation), large)
    assert np.array_equal(fitted_mask(Prompt(mask=small), (90, 90), orientation), large)


def test_marks_are_upright_coordinates_whatever_the_orientation():
    prompt = Prompt(((5, 6),), ((1, 2, 30, 40),), (Stroke(((7, 8), (9, 10)), 3),))
    fitted = prompt.fit(SIZE, orientation=6)
    assert fitted.points == ((5, 6),)
    assert fitted.boxes == ((1, 2, 30, 40),)
    assert fitted.strokes == (Stroke(((7, 8), (9, 10)), 3),)


def test_fit_leaves_the_prompt_it_was_called_on_alone():
    mask = disc().astype(np.float64)
    prompt = Prompt(boxes=((30, 20, 10, 40),), mask=mask)
    prompt.fit(SIZE)
    assert prompt.boxes == ((30, 20, 10, 40),)
    assert np.array_equal(mask, disc())


def test_fitting_twice_changes_nothing_more():
    prompt = Prompt(
        ((160, 120), (0, 0)), ((30, 20, -10, 40), (5, 5, 5, 5)), (Stroke(((-5, 50), (900, 50)), 999),), disc((32, 24))
    )
    once = prompt.fit(SIZE)
    twice = once.fit(SIZE)
    assert once.mask is not None and twice.mask is not None
    assert (once.points, once.boxes, once.strokes) == (twice.points, twice.boxes, twice.strokes)
    assert np.array_equal(once.mask, twice.mask)


def test_several_kinds_at_once_mean_their_union():
    parts = [
        Prompt(points=((150, 10), (3, 117))),
        Prompt(boxes=((10, 70, 30, 90), (100, 100, 90, 110))),
        stroke((60, 20), (90, 50), width=6),
        Prompt(mask=disc()),
    ]
    together = Prompt(parts[0].points, parts[1].boxes, parts[2].strokes, disc())
    whole = patches.rasterise(together.fit(SIZE), SIZE, GRID)
    single = [patches.rasterise(part.fit(SIZE), SIZE, GRID) for part in parts]
    assert np.array_equal(whole.pixels, np.logical_or.reduce([part.pixels for part in single]))
    assert np.array_equal(whole.patches, np.logical_or.reduce([part.patches for part in single]))
    assert all(part.pixels.sum() < whole.pixels.sum() for part in single)


def test_drawing_does_not_write_into_the_callers_mask():
    mask = disc()
    patches.rasterise(Prompt(points=((150, 10),), boxes=((0, 100, 20, 120),), mask=mask).fit(SIZE), SIZE, GRID)
    assert np.array_equal(mask, disc())


@pytest.mark.parametrize(
    ("prompt", "empty", "only_boxes"),
    [
        (Prompt(), True, False),
        (Prompt.point(1, 2), False, False),
        (Prompt.box(1, 2, 3, 4), False, True),
        (stroke((1, 2)), False, False),
        (Prompt(mask=np.zeros((2, 2))), False, False),
        (Prompt(points=((1, 2),), boxes=((1, 2, 3, 4),)), False, False),
        (Prompt(boxes=((1, 2, 3, 4),), strokes=(Stroke(((1, 2),)),)), False, False),
        (Prompt(boxes=((1, 2, 3, 4),), mask=np.ones((2, 2))), False, False),
    ],
)
def test_prompt_knows_whether_it_is_empty_or_boxes_alone(prompt, empty, only_boxes):
    assert prompt.empty is empty
    assert prompt.only_boxes is only_boxes


def test_json_of_every_kind_is_read():
    prompt = Prompt.from_json(
        {
            "points": [[1, 2.5]],
            "boxes": [[1, 2, 3, 4], (5, 6, 7, 8)],
            "strokes": [{"path": [[1, 2], [3, 4]], "width": 6}, {"path": [[9, 9]]}],
        }
    )
    assert prompt.points == ((1.0, 2.5),)
    assert prompt.boxes == ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0))
    assert prompt.strokes == (Stroke(((1.0, 2.0), (3.0, 4.0)), 6.0), Stroke(((9.0, 9.0),), 20.0))
    assert prompt.mask is None


@pytest.mark.parametrize("data", [{}, {"points": [], "boxes": [], "strokes": []}, {"point": [[1, 2]]}])
def test_json_without_marks_is_an_empty_prompt(data):
    assert Prompt.from_json(data).empty


BAD_JSON: dict[str, Any] = {
    "none": None,
    "list": [[1, 2]],
    "text": "points",
    "number": 5,
    "points-none": {"points": None},
    "points-number": {"points": 3},
    "points-text": {"points": "12"},
    "points-flat": {"points": [1, 2]},
    "points-mapping": {"points": {"a": 1}},
    "point-of-one": {"points": [[1]]},
    "point-of-three": {"points": [[1, 2, 3]]},
    "point-words": {"points": [["left", "top"]]},
    "point-none": {"points": [[None, 1]]},
    "point-nested": {"points": [[[1], [2]]]},
    "point-too-large": {"points": [[10**400, 1]]},
    "point-one-string": {"points": ["12"]},
    "box-of-three": {"boxes": [[1, 2, 3]]},
    "box-of-five": {"boxes": [[1, 2, 3, 4, 5]]},
    "box-corners": {"boxes": [[[1, 2], [3, 4]]]},
    "box-mapping": {"boxes": [{"x": 1, "y": 2, "w": 3, "h": 4}]},
    "box-one-string": {"boxes": ["1234"]},
    "strokes-mapping": {"strokes": {"path": [[1, 2]]}},
    "stroke-list": {"strokes": [[[1, 2], [3, 4]]]},
    "stroke-no-path": {"strokes": [{"width": 3}]},
    "stroke-path-none": {"strokes": [{"path": None}]},
    "stroke-path-text": {"strokes": [{"path": "ab"}]},
    "stroke-path-flat": {"strokes": [{"path": [1, 2]}]},
    "stroke-width-none": {"strokes": [{"path": [[1, 2]], "width": None}]},
    "stroke-width-text": {"strokes": [{"path": [[1, 2]], "width": "thick"}]},
    "stroke-width-list": {"strokes": [{"path": [[1, 2]], "width": [3]}]},
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_json_of_another_shape_is_refused(data):
    with pytest.raises(BadPrompt, match=r"^The prompt must hold points .*\.$"):
        Prompt.from_json(data)


def test_json_of_more_than_ten_thousand_marks_is_refused():
    with pytest.raises(BadPrompt, match="10001 marks"):
        Prompt.from_json({"points": [[1, 2]] * (MAX_MARKS + 1)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "Infinity"])
def test_json_number_that_is_not_finite_never_gets_past_fit(value):
    with pytest.raises(BadPrompt):
        Prompt.from_json({"points": [[value, 1]]}).fit(SIZE)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, slice(0, 10)),
        (2.5, 3.5, slice(2, 4)),
        (2.0, 2.0, slice(2, 3)),
        (-5, 0.5, slice(0, 1)),
        (9.5, 40, slice(9, 10)),
        (10, 10, slice(9, 10)),
    ],
)
def test_span_is_every_touched_pixel_and_never_none(low, high, expected):
    assert axis_span(low, high, 10) == expected


def test_bounds_are_exclusive_at_the_far_side():
    region = np.zeros((9, 12), bool)
    region[2, 5] = region[6, 3] = True
    assert bounds(region) == (3, 2, 6, 7)
