"""From a prompt to the patches of an encoder's grid, and the pixels, of one image."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from PIL import Image, ImageDraw

from foir.errors import BadPrompt
from foir.prompts import XY, Prompt, Stroke, axis_span, bounds

Crop = tuple[slice, slice]  # rows and columns of an image's pixels

STROKE_SIDE = 1024  # longest side strokes are drawn at, pixels
RULES = ("any", "majority", "center")
_TOUCH = 1e-10  # a smaller share of a patch is rounding


@dataclass(frozen=True, eq=False)
class PatchMask:
    """A region of one image, in patches and in pixels.

    Attributes:
        patches: bool [rows, cols] on the encoder's grid; never empty.
        pixels: bool [H, W] on the part of the image under the grid, which is all of it for most models; never empty.
    """

    patches: np.ndarray
    pixels: np.ndarray

    @classmethod
    def everything(cls, size: tuple[int, int], grid: tuple[int, int]) -> PatchMask:
        """The whole image of (width, height) on a grid of (rows, cols)."""
        return cls(np.ones(grid, bool), np.ones((size[1], size[0]), bool))

    def cut(self, crop: Crop) -> PatchMask:
        """The part of the region that lies in a crop of the image, on the same grid over the crop."""
        pixels = self.pixels[crop]
        return PatchMask(_select(pixels, self.patches.shape, "any"), pixels)

    def mirrored(self) -> PatchMask:
        """The region with left and right swapped."""
        return PatchMask(self.patches[:, ::-1].copy(), self.pixels[:, ::-1].copy())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest pixel box (x0, y0, x1, y1) around the region, x1 and y1 exclusive."""
        return bounds(self.pixels)


def rasterise(
    prompt: Prompt, size: tuple[int, int], grid: tuple[int, int], *, rule: str = "any", window: int = 3,
    crop: Crop | None = None,
) -> PatchMask:  # fmt: skip
    """Turn a prompt into patches.

    Boxes, strokes and masks select patches by `rule`: `any` (touched by at least one pixel of the region), `majority`
    (at least half covered) or `center` (centre inside). A point selects the `window` x `window` patches around the one
    it falls in, clipped at the border. If a rule selects nothing, the patch at the region's centroid is taken.

    Args:
        prompt: A prompt that went through `Prompt.fit`.
        size: Width and height of the image in pixels.
        grid: Rows and columns of the encoder's patch grid; the image, or the crop of it, is resized onto it.
        rule: One of `RULES`.
        window: Odd side of a point's window in patches.
        crop: The part of the image that the encoder sees; all of it if left out.

    Raises:
        BadPrompt: An unknown rule, an even window, or a prompt that lies outside the crop.
    """
    check_rule(rule, window)
    area, points = _draw(prompt, size), prompt.points
    if crop is not None:
        area, points = _cropped(area, points, crop)
        size = area.shape[1], area.shape[0]
    patches = _select(area, grid, rule) if area.any() else np.zeros(grid, bool)
    for x, y in points:
        rows, cols = _window(y, size[1], grid[0], window), _window(x, size[0], grid[1], window)
        patches[rows, cols] = True
        area[_pixel_span(rows, size[1], grid[0]), _pixel_span(cols, size[0], grid[1])] = True
    return PatchMask(patches, area)


def check_rule(rule: str, window: int) -> None:
    """Refuse an unknown rule and an even window; see `rasterise`.

    Raises:
        BadPrompt: One of them.
    """
    if rule not in RULES:
        raise BadPrompt(f"Unknown rule {rule!r}: use one of {', '.join(RULES)}.")
    if not isinstance(window, Integral) or window < 1 or window % 2 == 0:
        raise BadPrompt(f"The point window must be an odd number of patches, not {window}.")


def _draw(prompt: Prompt, size: tuple[int, int]) -> np.ndarray:
    """The pixels that boxes, strokes and the mask cover, bool [H, W]."""
    area = np.zeros((size[1], size[0]), bool) if prompt.mask is None else prompt.mask.copy()
    for x0, y0, x1, y1 in prompt.boxes:
        area[axis_span(y0, y1, size[1]), axis_span(x0, x1, size[0])] = True
    if prompt.strokes:
        area |= _draw_strokes(prompt.strokes, size)
        for x, y in (point for stroke in prompt.strokes for point in stroke.path):
            if 0 <= x <= size[0] and 0 <= y <= size[1]:  # however thin the brush, what it touched is meant
                area[axis_span(y, y, size[1]), axis_span(x, x, size[0])] = True
        if not area.any():
            raise BadPrompt(f"The stroke passes beside the picture of {size[0]} x {size[1]} pixels.")
    return area


def _cropped(area: np.ndarray, points: tuple[XY, ...], crop: Crop) -> tuple[np.ndarray, tuple[XY, ...]]:
    """What of an area and of points lies inside a crop, in its pixels."""
    rows, cols = crop
    area = area[crop]
    points = tuple(
        (x - cols.start, y - rows.start)
        for x, y in points
        if cols.start <= x < cols.stop and rows.start <= y < rows.stop
    )
    if not (area.any() or points):
        raise BadPrompt(
            "The model sees the middle of this picture only, and what is pointed at lies outside: point nearer to it."
        )
    return area, points


def _draw_strokes(strokes: tuple[Stroke, ...], size: tuple[int, int]) -> np.ndarray:
    """Strokes as bool [H, W]; on a large image they are drawn small first, or long scribbles would take minutes."""
    scale = min(1.0, STROKE_SIDE / max(size))
    canvas = Image.new("1", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        path = [(x * scale, y * scale) for x, y in stroke.path]
        radius = max(stroke.width * scale / 2, 0.5)
        if len(path) > 1:
            pen.line(path, fill=1, width=max(round(2 * radius), 1), joint="curve")
        for x, y in (path[0], path[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.array(canvas.resize(size, Image.Resampling.NEAREST))


def _select(area: np.ndarray, grid: tuple[int, int], rule: str) -> np.ndarray:
    if rule == "center":
        rows = ((np.arange(grid[0]) + 0.5) * area.shape[0] / grid[0]).astype(int)
        cols = ((np.arange(grid[1]) + 0.5) * area.shape[1] / grid[1]).astype(int)
        patches = area[np.ix_(rows, cols)]
    else:
        shares = coverage(area, grid)
        patches = shares > _TOUCH if rule == "any" else shares >= 0.5 - _TOUCH
    if not patches.any():
        ys, xs = np.nonzero(area)
        row = int((ys.mean() + 0.5) * grid[0] / area.shape[0])
        col = int((xs.mean() + 0.5) * grid[1] / area.shape[1])
        patches[min(row, grid[0] - 1), min(col, grid[1] - 1)] = True
    return patches


def coverage(area: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Share of each patch that the region covers, float [rows, cols] in 0..1; exact also where patches cut pixels."""
    height, width = area.shape
    vertical, horizontal = _overlap(height, grid[0]), _overlap(width, grid[1]).T
    shares = np.zeros(grid)
    for row in range(grid[0]):  # a row of patches at a time keeps the float copy of a large mask small
        strip = _pixel_span(slice(row, row + 1), height, grid[0])
        shares[row] = (vertical[row, strip] @ area[strip].astype(np.float64)) @ horizontal
    return shares


def _overlap(pixels: int, patches: int) -> np.ndarray:
    """[patches, pixels]: share of patch i that pixel j covers."""
    start = np.arange(patches)[:, None] * (pixels / patches)
    pixel = np.arange(pixels)[None]
    overlap = np.minimum(pixel + 1, start + pixels / patches) - np.maximum(pixel, start)
    return np.clip(overlap, 0, None) * (patches / pixels)


def _window(coordinate: float, pixels: int, patches: int, window: int) -> slice:
    centre = min(int(coordinate * patches / pixels), patches - 1)
    return slice(max(centre - window // 2, 0), min(centre + window // 2 + 1, patches))


def _pixel_span(patches: slice, pixels: int, count: int) -> slice:
    """The pixels that a run of patches touches."""
    return axis_span(patches.start * pixels / count, patches.stop * pixels / count, pixels)
