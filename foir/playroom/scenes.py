"""Composes scenes: a theme, a ground, objects from back to front with their shadows, and exact annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from foir.playroom import surfaces
from foir.playroom.sprites import Sprite, sprites
from foir.prompts import bounds

# Scenes of one split never share a seed with another; see `compose`.
SPLITS = {"gallery": 0, "train": 1, "held-out": 2, "needles": 3, "dev": 4}
MIN_VISIBLE = 0.45  # visible share below which an object is not annotated
FOOD = ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet", "drink", "dishware")
DESK = ("computer", "phone", "office", "writing", "book-paper", "light & video", "science", "time", "drink")
ZOO = ("animal-mammal", "animal-bird", "animal-reptile", "animal-bug", "plant-flower", "plant-other")


@dataclass(frozen=True)
class Theme:
    """A kind of scene: place in captions, grounds and categories to choose from, outdoors, seen from above."""

    place: str
    grounds: tuple[str, ...]
    categories: tuple[str, ...]
    outdoors: bool = False
    above: bool = False


THEMES = (
    Theme("on a kitchen table", ("wood", "cloth", "tiles"), FOOD),
    Theme("laid out on a table", ("wood", "cloth", "tiles"), FOOD, above=True),
    Theme("at a picnic", ("grass", "cloth"), (*FOOD, "animal-bug", "plant-flower"), above=True),
    Theme("in a meadow", ("grass",), ZOO, outdoors=True),
    Theme("on a paved square", ("tiles",), ("transport-ground", "transport-air", "plant-other"), outdoors=True),
    Theme("on a desk", ("wood",), DESK),
    Theme("on the playroom floor", ("wood", "cloth", "tiles"), ("game", "sport", "musical-instrument", "event")),
    Theme("packed for a trip", ("cloth", "wood"), ("clothing", "household", "book-paper", "sport"), above=True),
    Theme("on a workbench", ("wood", "tiles"), ("tool", "household", "science", "light & video"), above=True),
    Theme("on the beach", ("sand",), ("animal-marine", "transport-water", "food-sweet", "sport"), outdoors=True),
    Theme("on the sand", ("sand",), ("animal-marine", "food-marine", "clothing", "food-sweet"), above=True),
)
OFF_THEME = 0.25  # share of objects outside the theme, so that the scene does not predict its objects


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object of a scene: its sprite, visible box (x0, y0, x1, y1) and visible pixels, bool [H, W]."""

    sprite: Sprite
    box: tuple[int, int, int, int]
    mask: np.ndarray

    @property
    def share(self) -> float:
        """Share of the image that it covers."""
        return float(self.mask.mean())


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed image with its annotations."""

    image: Image.Image
    objects: tuple[SceneObject, ...]
    caption: str


@dataclass(frozen=True, eq=False)
class _Placed:
    sprite: Sprite
    image: Image.Image
    x: int  # left edge
    y: int  # upper edge
    airborne: bool

    @property
    def alpha(self) -> Image.Image:
        return self.image.getchannel("A")


def compose(
    split: str,
    number: int,
    *,
    size: tuple[int, int] = (640, 480),
    objects: int | None = None,
    needle: tuple[Sprite, float] | None = None,
) -> Scene:
    """Compose a scene; the same arguments always give the same one.

    Args:
        split: "gallery", "train", "held-out", "needles" or "dev": disjoint seeds. Training scenes hold no held-out
            sprite, scenes of needles no other than the needle.
        number: Number of the scene in the split.
        size: Width and height in pixels.
        objects: Number of objects beside the needle, 3 to 12 at random if left out; hidden ones are not annotated.
        needle: A sprite that is placed in front, and the share of the image that it covers.
    """
    rng = np.random.default_rng([SPLITS[split], number])
    theme = THEMES[rng.integers(len(THEMES))]
    horizon = 0 if theme.above else int(size[1] * rng.uniform(0.26, 0.4))
    light_side = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0))
    canvas = Image.fromarray(np.clip(_ground(rng, theme, size, horizon), 0, 255).astype(np.uint8))
    chosen = _choose(rng, theme, int(rng.integers(3, 13)) if objects is None else objects, split)
    placed = _place(rng, theme, chosen, size, horizon)
    if needle is not None:
        placed.append(_place_needle(rng, theme, *needle, size, horizon))
    owner = np.full((size[1], size[0]), -1)
    full_sizes = []
    for i, item in enumerate(placed):
        _draw_shadow(canvas, item, theme, light_side)
        canvas.paste(item.image, (item.x, item.y), item.image)
        solid = Image.new("L", size)
        solid.paste(1, (item.x, item.y), item.alpha.point(lambda a: 255 * (a > 127)))
        pixels = np.asarray(solid, bool)
        owner[pixels] = i
        full_sizes.append(int(pixels.sum()))
    light = surfaces.light(rng, size, light_side)
    image = Image.fromarray(np.clip(np.asarray(canvas, np.float32) * light, 0, 255).astype(np.uint8))
    annotated = [_annotate(item, owner == i, full_sizes[i]) for i, item in enumerate(placed)]
    visible = tuple(item for item in annotated if item is not None)
    return Scene(image, visible, _caption(visible, theme))


def _ground(rng: np.random.Generator, theme: Theme, size: tuple[int, int], horizon: int) -> np.ndarray:
    texture = surfaces.SURFACES[theme.grounds[rng.integers(len(theme.grounds))]](rng)
    if theme.above:
        return surfaces.from_above(rng, texture, size)
    backdrop = (surfaces.sky if theme.outdoors else surfaces.wall)(rng, size, horizon)
    return surfaces.in_perspective(rng, texture, backdrop, size, horizon)


def _choose(rng: np.random.Generator, theme: Theme, count: int, split: str) -> list[Sprite]:
    known = [s for s in sprites() if not (split in ("train", "needles") and s.held_out)]
    fitting = [s for s in known if s.category in theme.categories]
    chosen: list[Sprite] = []
    while len(chosen) < count:
        pool = known if rng.random() < OFF_THEME else fitting
        sprite = pool[rng.integers(len(pool))]
        if sprite.category == "transport-air" and not theme.outdoors and not theme.above:
            continue
        chosen.append(sprite)
        if rng.random() < 0.12:
            chosen.append(sprite)  # sometimes two of a kind
    return chosen[:count]


def _place(
    rng: np.random.Generator, theme: Theme, chosen: list[Sprite], size: tuple[int, int], horizon: int
) -> list[_Placed]:
    """Place each sprite, back to front; a position that would hide too much is drawn again."""
    width, height = size
    crowding = (6 / max(len(chosen), 6)) ** 0.35
    placed: list[_Placed] = []
    for sprite in chosen:
        for _ in range(12):
            airborne = sprite.flies and theme.outdoors
            foot = 0.0 if theme.above else rng.uniform(horizon + 0.12 * (height - horizon), height * 0.97)
            nearness = 1.0 if theme.above or airborne else 0.62 + 0.5 * (foot - horizon) / (height - horizon)
            length = height * 0.32 * sprite.size * nearness * crowding * rng.uniform(0.85, 1.15)
            image = _pose(rng, sprite, length * (0.7 if airborne else 1.0), lying=theme.above)
            x = int(rng.uniform(-0.05 * image.width, width - 0.95 * image.width))
            if theme.above or airborne:
                lowest = (height if theme.above else horizon) - image.height
                y = int(rng.uniform(0, max(lowest, 1)))
            else:
                y = int(foot - image.height)
            candidate = _Placed(sprite, image, x, y, airborne)
            if all(_overlap(candidate, other) < 0.3 for other in placed):
                placed.append(candidate)
                break
    return placed if theme.above else sorted(placed, key=lambda item: item.y + item.image.height)


def _place_needle(
    rng: np.random.Generator, theme: Theme, sprite: Sprite, share: float, size: tuple[int, int], horizon: int
) -> _Placed:
    image = _pose(rng, sprite, 100, lying=theme.above)
    solid = np.asarray(image.getchannel("A")) > 127
    scale = float(np.sqrt(share * size[0] * size[1] / solid.sum()))
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    x = int(rng.uniform(0, max(size[0] - image.width, 1)))
    lowest = max(size[1] - image.height, horizon + 1)
    return _Placed(sprite, image, x, int(rng.uniform(max(horizon - image.height // 2, 0), lowest)), False)


def _pose(rng: np.random.Generator, sprite: Sprite, length: float, *, lying: bool) -> Image.Image:
    """The sprite mirrored and rotated at random, its longer side `length` pixels."""
    image = sprite.image()
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-180, 180) if lying else rng.normal(0, 2.5)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    image = image.crop(image.getchannel("A").getbbox())
    scale = length / max(image.width, image.height)
    shape = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return image.resize(shape, Image.Resampling.LANCZOS)


def _overlap(a: _Placed, b: _Placed) -> float:
    """Shared box area as a share of the smaller object's box."""
    across = min(a.x + a.image.width, b.x + b.image.width) - max(a.x, b.x)
    down = min(a.y + a.image.height, b.y + b.image.height) - max(a.y, b.y)
    smaller = min(a.image.width * a.image.height, b.image.width * b.image.height)
    return max(across, 0) * max(down, 0) / smaller


def _draw_shadow(canvas: Image.Image, item: _Placed, theme: Theme, side: float) -> None:
    """Darken the ground: around a lying object, or at the foot of a standing one and away from the light."""
    if item.airborne:
        return
    alpha = item.alpha
    width, height = alpha.size
    margin = max(width, height) // 3 + 4
    shade = Image.new("L", (width + 2 * margin, height + 2 * margin))
    if theme.above:
        away = 0.06 * max(width, height)
        shade.paste(alpha.point(lambda a: a * 0.5), (margin - round(side * away), margin + round(away)))
        blur = 0.035 * max(width, height) + 1
    else:
        flat = alpha.resize((width, max(2, height // 4)))
        lean = flat.transform(flat.size, Image.Transform.AFFINE, (1, side * 1.2, -side * 0.6 * flat.height, 0, 1, 0))
        shade.paste(lean.point(lambda a: a * 0.5), (margin - round(side * 0.05 * width), margin + height - flat.height))
        foot = alpha.crop((0, round(0.9 * height), width, height)).resize((width, max(3, height // 14)))
        shade.paste(190, (margin, margin + height - 2 * foot.height // 3), foot)
        blur = 0.03 * width + 1
    soft = shade.filter(ImageFilter.GaussianBlur(blur))
    canvas.paste((28, 22, 24), (item.x - margin, item.y - margin), soft)


def _annotate(item: _Placed, mask: np.ndarray, full_size: int) -> SceneObject | None:
    """The object with its visible pixels; None where too few are visible."""
    if mask.sum() < max(MIN_VISIBLE * full_size, 24):
        return None
    return SceneObject(item.sprite, bounds(mask), mask)


def _caption(objects: tuple[SceneObject, ...], theme: Theme) -> str:
    """Name the objects, largest first: "A red apple, two lemons and some jeans on a kitchen table."."""
    counts = Counter(item.sprite.name for item in sorted(objects, key=lambda item: -item.share))
    names = join_names([counted_name(name, count) for name, count in counts.items()])
    return f"{names[0].upper()}{names[1:]} {theme.place}."


def join_names(words: Sequence[str]) -> str:
    """An enumeration: a red apple, two lemons and some jeans."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0] if words else "nothing"


def counted_name(name: str, count: int = 1) -> str:
    """A name with its count or article: two lemons."""
    if name.endswith("s") and not name.endswith(("ss", "us")):  # jeans, cherries, scissors
        return f"some {name}"
    if count == 1:
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    plural = name if name.endswith("fish") else f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"
    return f"{('two', 'three', 'several')[min(count, 4) - 2]} {plural}"
