"""Any prompt fits an image or is refused, and what fits selects something."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foir import FoirError, Prompt, Stroke
from foir.patches import rasterise
from tests.fuzz import examples, json_values

SIZE, GRID = (160, 120), (8, 8)
numbers = st.floats() | st.floats(-50, 250) | st.integers(-50, 250) | st.integers()
near = st.floats(-50, 250)
points = st.tuples(near, near)
marks = st.lists(json_values, max_size=3) | st.lists(st.lists(numbers, max_size=5), max_size=3)
strokes = st.builds(Stroke, st.lists(points, max_size=4).map(tuple), numbers)
masks: Any = arrays.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("?", "u1", "i8", "f4", "f8", "c16", "U2")]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=161) | st.just((120, 160)),
)


def select(prompt):
    """Fit and rasterise a prompt; nothing but a FoirError may be raised."""
    try:
        fitted = prompt.fit(SIZE)
        mask = rasterise(fitted, SIZE, GRID)
    except FoirError as error:
        assert "\n" not in str(error)
        return
    assert mask.patches.any() and mask.pixels.any()
    assert all(0 <= x < SIZE[0] and 0 <= y < SIZE[1] for x, y in fitted.points)
    assert all(0 <= x0 < x1 <= SIZE[0] and 0 <= y0 < y1 <= SIZE[1] for x0, y0, x1, y1 in fitted.boxes)


@examples(150)
@given(json_values | st.fixed_dictionaries({}, optional={"points": marks, "boxes": marks, "strokes": marks}))
def test_what_the_browser_sends(data):
    try:
        prompt = Prompt.from_json(data)
    except FoirError:
        return
    if not prompt.empty:
        select(prompt)


@examples(150)
@given(
    st.lists(points | st.lists(numbers), max_size=3),
    st.lists(st.tuples(near, near, near, near) | st.lists(numbers), max_size=3),
    st.lists(strokes, max_size=2),
)
def test_what_a_program_draws(points, boxes, strokes):
    select(Prompt(tuple(points), tuple(boxes), tuple(strokes)))


@examples(60)
@given(masks)
def test_masks(mask):
    select(Prompt(mask=mask))
