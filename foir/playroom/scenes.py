"""Composing a scene: a theme, a ground, things on it from back to front with their shadows, exact annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from foir.playroom import surfaces
from foir.playroom.sprites import Sprite, sprites

# Scenes of one split never share a seed with another; see `compose`.
SPLITS = {"gallery": 0, "train": 1, "held-out": 2, "needles": 3}
SEEN = 0.45  # a thing whose visible share falls below this would not be fair to ask for
FOOD = ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet", "drink", "dishware")
DESK = ("computer", "phone", "office", "writing", "book-paper", "light & video", "science", "time", "drink")
ZOO = ("animal-mammal", "animal-bird", "animal-reptile", "animal-bug", "plant-flower", "plant-other")


@dataclass(frozen=True)
class Theme:
    """What lies where: grounds to choose from, whether it stands outdoors, seen from above, and which categories."""

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
STRANGER = 0.25  # share of things that do not belong to the theme, so that the scene does not give them away


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene: what it is, its visible box (x0, y0, x1, y1) and its visible pixels, bool [H, W]."""

    sprite: Sprite
    box: tuple[int, int, int, int]
    mask: np.ndarray

    @property
    def share(self) -> float:
        """Share of the picture that it covers."""
        return float(self.mask.mean())


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed picture and all that is known of it."""

    image: Image.Image
    things: tuple[SceneObject, ...]
    caption: str


@dataclass(frozen=True, eq=False)
class _Placed:
    sprite: Sprite
    picture: Image.Image
    x: int  # left edge
    y: int  # upper edge
    aloft: bool


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
        split: "gallery", "train", "held-out" or "needles": disjoint seeds. Training scenes hold no held-out sprite,
            scenes of needles none but the needle.
        number: Which scene of the split.
        size: Width and height in pixels.
        objects: How many things are placed beside the needle, 3 to 12 at random if left out; hidden ones are not
            annotated.
        needle: A sprite that is placed in front, and the share of the picture that it covers.
    """
    rng = np.random.default_rng([SPLITS[split], number])
    theme = THEMES[rng.integers(len(THEMES))]
    horizon = 0 if theme.above else int(size[1] * rng.uniform(0.26, 0.4))
    lamp = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0))
    canvas = Image.fromarray(np.clip(_ground(rng, theme, size, horizon), 0, 255).astype(np.uint8))
    chosen = _choose(rng, theme, int(rng.integers(3, 13)) if objects is None else objects, split)
    placed = _place(rng, theme, chosen, size, horizon)
    if needle is not None:
        placed.append(_place_needle(rng, theme, *needle, size, horizon))
    owner = np.full((size[1], size[0]), -1)
    whole = []
    for i, thing in enumerate(placed):
        _shadow(canvas, thing, theme, lamp)
        canvas.paste(thing.picture, (thing.x, thing.y), thing.picture)
        solid = np.zeros(owner.shape, bool)
        _stamp(solid, thing)
        owner[solid] = i
        whole.append(int(solid.sum()))
    lit = np.clip(np.asarray(canvas, np.float32) * surfaces.light(rng, size, lamp), 0, 255).astype(np.uint8)
    things = [_seen(thing, owner == i, whole[i]) for i, thing in enumerate(placed)]
    kept = tuple(thing for thing in things if thing is not None)
    return Scene(Image.fromarray(lit), kept, _caption(kept, theme))


def _ground(rng: np.random.Generator, theme: Theme, size: tuple[int, int], horizon: int) -> np.ndarray:
    texture = surfaces.SURFACES[theme.grounds[rng.integers(len(theme.grounds))]](rng)
    if theme.above:
        return surfaces.from_above(rng, texture, size)
    backdrop = (surfaces.sky if theme.outdoors else surfaces.wall)(rng, size, horizon)
    return surfaces.into_the_distance(rng, texture, backdrop, size, horizon)


def _choose(rng: np.random.Generator, theme: Theme, count: int, split: str) -> list[Sprite]:
    known = [s for s in sprites() if not (split in ("train", "needles") and s.held_out)]
    fitting = [s for s in known if s.category in theme.categories]
    chosen: list[Sprite] = []
    while len(chosen) < count:
        pool = known if rng.random() < STRANGER else fitting
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
    """Find a spot for each thing, back to front; a spot that would hide too much is tried again."""
    width, height = size
    crowd = (6 / max(len(chosen), 6)) ** 0.35
    placed: list[_Placed] = []
    for sprite in chosen:
        for _ in range(12):
            aloft = sprite.flies and theme.outdoors
            foot = 0.0 if theme.above else rng.uniform(horizon + 0.12 * (height - horizon), height * 0.97)
            near = 1.0 if theme.above or aloft else 0.62 + 0.5 * (foot - horizon) / (height - horizon)
            tall = height * 0.32 * sprite.size * near * crowd * rng.uniform(0.85, 1.15)
            picture = _pose(rng, sprite, tall * (0.7 if aloft else 1.0), lying=theme.above)
            x = int(rng.uniform(-0.05 * picture.width, width - 0.95 * picture.width))
            if theme.above:
                y = int(rng.uniform(0, max(height - picture.height, 1)))
            elif aloft:
                y = int(rng.uniform(0, max(horizon - picture.height, 1)))
            else:
                y = int(foot - picture.height)
            spot = _Placed(sprite, picture, x, y, aloft)
            if all(_overlap(spot, other) < 0.3 for other in placed):
                placed.append(spot)
                break
    return placed if theme.above else sorted(placed, key=lambda p: p.y + p.picture.height)


def _place_needle(
    rng: np.random.Generator, theme: Theme, sprite: Sprite, share: float, size: tuple[int, int], horizon: int
) -> _Placed:
    picture = _pose(rng, sprite, 100, lying=theme.above)
    solid = np.asarray(picture.getchannel("A")) > 127
    scale = float(np.sqrt(share * size[0] * size[1] / solid.sum()))
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    x = int(rng.uniform(0, max(size[0] - picture.width, 1)))
    lowest = max(size[1] - picture.height, horizon + 1)
    return _Placed(sprite, picture, x, int(rng.uniform(max(horizon - picture.height // 2, 0), lowest)), False)


def _pose(rng: np.random.Generator, sprite: Sprite, tall: float, *, lying: bool) -> Image.Image:
    picture = sprite.picture()
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-180, 180) if lying else rng.normal(0, 2.5)
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = tall / max(picture.width, picture.height)
    shape = (max(8, round(picture.width * scale)), max(8, round(picture.height * scale)))
    return picture.resize(shape, Image.Resampling.LANCZOS)


def _overlap(a: _Placed, b: _Placed) -> float:
    """Shared box area as a share of the smaller thing's box."""
    across = min(a.x + a.picture.width, b.x + b.picture.width) - max(a.x, b.x)
    down = min(a.y + a.picture.height, b.y + b.picture.height) - max(a.y, b.y)
    smaller = min(a.picture.width * a.picture.height, b.picture.width * b.picture.height)
    return max(across, 0) * max(down, 0) / smaller


def _shadow(canvas: Image.Image, thing: _Placed, theme: Theme, lamp: float) -> None:
    """Darken the ground: all around below a lying thing, at the foot and away from the lamp below a standing one."""
    if thing.aloft:
        return
    alpha = thing.picture.getchannel("A")
    width, height = alpha.size
    margin = max(width, height) // 3 + 4
    shade = Image.new("L", (width + 2 * margin, height + 2 * margin))
    if theme.above:
        away = 0.06 * max(width, height)
        shade.paste(alpha.point(lambda a: a * 0.5), (margin - round(lamp * away), margin + round(away)))
        blur = 0.035 * max(width, height) + 1
    else:
        flat = alpha.resize((width, max(2, height // 4)))
        lean = flat.transform(flat.size, Image.Transform.AFFINE, (1, lamp * 1.2, -lamp * 0.6 * flat.height, 0, 1, 0))
        shade.paste(lean.point(lambda a: a * 0.5), (margin - round(lamp * 0.05 * width), margin + height - flat.height))
        foot = alpha.crop((0, round(0.9 * height), width, height)).resize((width, max(3, height // 14)))
        shade.paste(190, (margin, margin + height - 2 * foot.height // 3), foot)
        blur = 0.03 * width + 1
    soft = shade.filter(ImageFilter.GaussianBlur(blur))
    canvas.paste((28, 22, 24), (thing.x - margin, thing.y - margin), soft)


def _stamp(solid: np.ndarray, thing: _Placed) -> None:
    """Mark the thing's own pixels on the picture; what hangs over the edge is cut."""
    alpha = np.asarray(thing.picture.getchannel("A")) > 127
    x0, y0 = max(thing.x, 0), max(thing.y, 0)
    x1 = min(thing.x + alpha.shape[1], solid.shape[1])
    y1 = min(thing.y + alpha.shape[0], solid.shape[0])
    if x0 < x1 and y0 < y1:
        solid[y0:y1, x0:x1] = alpha[y0 - thing.y : y1 - thing.y, x0 - thing.x : x1 - thing.x]


def _seen(thing: _Placed, mask: np.ndarray, whole: int) -> SceneObject | None:
    if mask.sum() < max(SEEN * whole, 24):
        return None
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return SceneObject(thing.sprite, (int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1), mask)


def _caption(things: tuple[SceneObject, ...], theme: Theme) -> str:
    """Name the things, largest first: "A red apple, two lemons and some jeans on a kitchen table."."""
    counts = Counter(thing.sprite.name for thing in sorted(things, key=lambda t: -t.share))
    listed = caption_of([count_names(name, count) for name, count in counts.items()])
    return f"{listed[0].upper()}{listed[1:]} {theme.place}."


def caption_of(words: Sequence[str]) -> str:
    """Things in a row: a red apple, two lemons and some jeans."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0] if words else "nothing"


def count_names(name: str, count: int = 1) -> str:
    """So many of a thing: two lemons."""
    if name.endswith("s") and not name.endswith(("ss", "us")):  # jeans, cherries, scissors
        return f"some {name}"
    if count == 1:
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    plural = name if name.endswith("fish") else f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"
    return f"{('two', 'three', 'several')[min(count, 4) - 2]} {plural}"
