"""Visual prompts: points, boxes, strokes and masks, repaired where the meaning is clear.

Coordinates are pixels of the upright image as every viewer shows it, origin at the top left corner; pixel (x, y)
covers [x, x+1) x [y, y+1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from foir.arguments import checked
from foir.errors import BadPrompt
from foir.images import upright

MAX_MARKS = 10_000
MAX_THINGS = 16  # marks that are searched for one by one

XY = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Stroke:
    """A brush stroke: its path and the width of the brush, in pixels of the image."""

    path: tuple[XY, ...]
    width: float = 20.0

    def __post_init__(self) -> None:
        """Check that the path is a list.

        Raises:
            BadPrompt: It is none.
        """
        object.__setattr__(self, "path", _marks(self.path))


@dataclass(frozen=True, eq=False)
class Prompt:
    """Points, boxes (x0, y0, x1, y1), strokes and at most one mask; the prompt is their union.

    `mask` is [H, W]: bool, or numbers where more than half of the largest value means inside.
    """

    points: tuple[XY, ...] = ()
    boxes: tuple[Box, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the lists of marks; the marks themselves are checked by `fit`.

        Raises:
            BadPrompt: Marks are no list, or a stroke is no Stroke.
        """
        for name in ("points", "boxes", "strokes"):
            object.__setattr__(self, name, _marks(getattr(self, name)))
        if not all(isinstance(stroke, Stroke) for stroke in self.strokes):
            raise BadPrompt("Each stroke must be a Stroke.")

    @classmethod
    def point(cls, x: float, y: float) -> Prompt:
        """One click."""
        return cls(points=((x, y),))

    @classmethod
    def box(cls, x0: float, y0: float, x1: float, y1: float) -> Prompt:
        """One box by two opposite corners."""
        return cls(boxes=((x0, y0, x1, y1),))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """Read `{"points": [[x, y]], "boxes": [[x0, y0, x1, y1]], "strokes": [{"path": [[x, y]], "width": w}]}`.

        Raises:
            BadPrompt: The data has another shape, or more than 10,000 marks.
        """
        try:
            points = _pairs(data.get("points", ()))
            boxes = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in map(_row, data.get("boxes", ())))
            strokes = tuple(
                Stroke(_pairs(stroke["path"]), float(stroke.get("width", 20.0))) for stroke in data.get("strokes", ())
            )
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise BadPrompt("The prompt must hold points [x, y], boxes [x0, y0, x1, y1] and strokes.") from error
        prompt = cls(points, boxes, strokes)
        prompt._check_count()
        return prompt

    def _check_count(self) -> None:
        marks = len(self.points) + len(self.boxes) + sum(len(stroke.path) for stroke in self.strokes)
        if marks > MAX_MARKS:
            raise BadPrompt(f"The prompt has {marks} marks; the limit is {MAX_MARKS}.")

    @property
    def empty(self) -> bool:
        """Whether nothing is pointed at."""
        return not (self.points or self.boxes or self.strokes) and self.mask is None

    @property
    def only_boxes(self) -> bool:
        """Whether a method that is defined for boxes can take the prompt as it is."""
        return bool(self.boxes) and not (self.points or self.strokes) and self.mask is None

    def marks(self) -> tuple[Prompt, ...]:
        """A prompt for each mark; the prompt itself where there are more than `MAX_THINGS`."""
        marks = (
            *(Prompt(points=(point,)) for point in self.points),
            *(Prompt(boxes=(box,)) for box in self.boxes),
            *(Prompt(strokes=(stroke,)) for stroke in self.strokes),
            *(() if self.mask is None else (Prompt(mask=self.mask),)),
        )
        return marks if len(marks) <= MAX_THINGS else (self,)

    @checked
    def fit(self, size: tuple[int, int], *, orientation: int = 1) -> Prompt:
        """Repair the prompt where its meaning on an image of this (width, height) is clear, and refuse the rest.

        Corners are sorted, marks clipped to the image, a box of no area widened to one pixel, a mask of another size
        but the same aspect ratio resized, and a mask of the stored pixels transposed like the photo (`orientation`).

        Raises:
            BadPrompt: Nothing is pointed at, a mark is malformed or wholly outside, or the mask does not fit.
        """
        if self.empty:
            raise BadPrompt("Nothing is pointed at: give a point, a box, a stroke or a mask.")
        self._check_count()
        return Prompt(
            points=tuple(_fit_point(point, size) for point in self.points),
            boxes=tuple(_fit_box(box, size) for box in self.boxes),
            strokes=tuple(_fit_stroke(stroke, size) for stroke in self.strokes),
            mask=None if self.mask is None else _fit_mask(self.mask, size, orientation),
        )


def _marks(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim):
        raise BadPrompt("Points, boxes, strokes and the path of a stroke are lists.")
    return tuple(values)


def _row(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):  # a string of digits would unpack as well
        raise TypeError(value)
    return value


def _pairs(rows: Any) -> tuple[XY, ...]:
    return tuple((float(x), float(y)) for x, y in map(_row, rows))


def _fit_point(point: XY, size: tuple[int, int]) -> XY:
    x, y = _numbers(point, 2, "A point")
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise BadPrompt(f"The point ({x:g}, {y:g}) lies outside the picture of {size[0]} x {size[1]} pixels.")
    return min(x, math.nextafter(size[0], 0)), min(y, math.nextafter(size[1], 0))


def _fit_box(box: Box, size: tuple[int, int]) -> Box:
    a, b, c, d = _numbers(box, 4, "A box")
    (x0, x1), (y0, y1) = sorted((a, c)), sorted((b, d))
    if x1 < 0 or y1 < 0 or x0 > size[0] or y0 > size[1]:
        raise BadPrompt(
            f"The box ({a:g}, {b:g}, {c:g}, {d:g}) lies outside the picture of {size[0]} x {size[1]} pixels."
        )
    x0, x1 = _at_least_a_pixel(x0, x1, size[0])
    y0, y1 = _at_least_a_pixel(y0, y1, size[1])
    return x0, y0, x1, y1


def _at_least_a_pixel(low: float, high: float, limit: int) -> tuple[float, float]:
    low, high = max(low, 0.0), min(high, float(limit))
    if high - low >= 1:
        return low, high
    start = min(math.floor((low + high) / 2), limit - 1)
    return float(start), float(start + 1)


def _fit_stroke(stroke: Stroke, size: tuple[int, int]) -> Stroke:
    if not stroke.path:
        raise BadPrompt("A stroke needs at least one point.")
    (width,) = _numbers((stroke.width,), 1, "The width of a brush")
    if width <= 0:
        raise BadPrompt(f"The brush must be wider than {width:g} pixels.")
    path = tuple((x, y) for x, y in (_numbers(point, 2, "A point") for point in stroke.path))
    xs, ys = [x for x, _ in path], [y for _, y in path]
    radius = width / 2
    if max(xs) < -radius or max(ys) < -radius or min(xs) > size[0] + radius or min(ys) > size[1] + radius:
        raise BadPrompt(f"The stroke lies outside the picture of {size[0]} x {size[1]} pixels.")
    # Points far off would overflow in the drawing code.
    limit = 4 * max(size)
    clipped = tuple((min(max(x, -limit), limit), min(max(y, -limit), limit)) for x, y in path)
    return replace(stroke, path=clipped, width=min(width, 3.0 * max(size)))


def _fit_mask(mask: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    try:
        values = np.asarray(mask)
    except ValueError as error:  # rows of different lengths
        raise BadPrompt("A mask must be [H, W] numbers or bools.") from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "biuf":
        raise BadPrompt(f"A mask must be [H, W] numbers or bools, not {values.dtype} of shape {values.shape}.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadPrompt("The mask holds values that are not finite numbers.")
    inside = values if values.dtype == bool else values > values.max() / 2
    if not inside.any():
        raise BadPrompt("The mask is empty: it selects no pixel.")
    height, width = inside.shape
    if (width, height) == size:
        return inside
    image = Image.fromarray(inside)
    misfit, transposed_misfit = abs(width * size[1] - height * size[0]), abs(height * size[1] - width * size[0])
    if orientation >= 5 and transposed_misfit < misfit and _same_shape((height, width), size):
        image = upright(image, orientation)  # it was drawn on the stored pixels
    elif not _same_shape((width, height), size):
        raise BadPrompt(f"The mask is {width} x {height} but the picture is {size[0]} x {size[1]} pixels.")
    resized = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    if resized.any():
        return resized
    # A few pixels can vanish when a mask is resized; their bounding box cannot.
    x0, y0, x1, y1 = bounds(np.asarray(image))
    scale_x, scale_y = size[0] / image.width, size[1] / image.height
    box_mask = np.zeros((size[1], size[0]), bool)
    box_mask[axis_span(y0 * scale_y, y1 * scale_y, size[1]), axis_span(x0 * scale_x, x1 * scale_x, size[0])] = True
    return box_mask


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio up to the rounding of a resize."""
    scale = max(b) / max(a)
    return abs(a[0] * scale - b[0]) <= max(1.0, scale) and abs(a[1] * scale - b[1]) <= max(1.0, scale)


def _numbers(values: Sequence[float], count: int, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadPrompt(f"{values!r} are not coordinates.") from error
    if len(numbers) != count:
        raise BadPrompt(f"{what} takes {count} numbers, not {len(numbers)}.")
    if not all(math.isfinite(number) for number in numbers):
        raise BadPrompt("A coordinate of the prompt is not a finite number.")
    return numbers


def axis_span(low: float, high: float, limit: int) -> slice:
    """The pixels that the interval [low, high) touches, at least one."""
    start = min(max(math.floor(low), 0), limit - 1)
    return slice(start, max(min(math.ceil(high), limit), start + 1))


def bounds(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (x0, y0, x1, y1) around the set pixels of a bool [H, W], x1 and y1 exclusive."""
    rows, cols = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def box_overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [n, 4] with one [4], [n]."""
    shared = (np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / (areas - shared).clip(1e-12))
