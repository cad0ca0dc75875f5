"""playroom: held-out composed scenes as queries, the sample gallery's scenes as the gallery. Toys, not photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from PIL import Image

from eval.datasets import Captioned, Dataset, Load, Query, captioned, dataset
from foir.playroom import Sprite, compose, sprites
from foir.prompts import Prompt

GALLERY, QUERIES = 600, 200
SMALL = (0.01, 0.05)  # share of the picture that a prompted thing covers


@dataset("playroom")
def by_category() -> Dataset:
    """Boxes around things that cover 1 to 5 % of a held-out scene; a hit holds a thing of the same category."""
    return _playroom("playroom", lambda sprite: sprite.category, rarest=1)


@dataset("playroom-instances")
def by_instance() -> Dataset:
    """The same boxes; a hit holds the very same thing, which at least ten scenes of the gallery must hold."""
    return _playroom("playroom-instances", lambda sprite: sprite.name, rarest=10)


@captioned("playroom-captions")
def with_captions() -> Captioned:
    """The gallery's scenes, each with the sentence that names all of its things, and the boxes of these."""
    shown = [_shown("gallery", number) for number in range(GALLERY)]
    return Captioned(
        "playroom-captions",
        tuple(_picture("gallery", number) for number in range(GALLERY)),
        tuple((scene.caption,) for scene in shown),
        boxes={"annotated": tuple(tuple(thing.box for thing in scene.things) for scene in shown)},
    )


@dataclass(frozen=True)
class _Shown:
    """A thing on a scene, without its pixels."""

    sprite: Sprite
    box: tuple[float, float, float, float]
    share: float


@dataclass(frozen=True)
class _Scene:
    """What is known of a scene, without its picture."""

    things: tuple[_Shown, ...]
    caption: str


@cache
def _shown(split: str, number: int) -> _Scene:
    """What is on a scene; composing it takes a fifth of a second, and all data sets here ask."""
    scene = compose(split, number)
    return _Scene(tuple(_Shown(thing.sprite, thing.box, thing.share) for thing in scene.objects), scene.caption)


def _playroom(name: str, kind: Callable[[Sprite], str], rarest: int) -> Dataset:
    kinds = {kind_name: i for i, kind_name in enumerate(sorted({kind(sprite) for sprite in sprites()}))}
    labels = np.zeros((GALLERY, len(kinds)), bool)
    for number in range(GALLERY):
        for thing in _shown("gallery", number).things:
            labels[number, kinds[kind(thing.sprite)]] = True
    findable = labels.sum(0) >= rarest
    queries = [
        Query(number, Prompt.box(*thing.box), kinds[kind(thing.sprite)], partial(_mask, number, place))
        for number in range(QUERIES)
        for place, thing in enumerate(_shown("held-out", number).things)
        if SMALL[0] <= thing.share <= SMALL[1] and findable[kinds[kind(thing.sprite)]]
    ]
    return Dataset(
        name,
        tuple(_picture("gallery", number) for number in range(GALLERY)),
        labels,
        tuple(queries),
        tuple(_picture("held-out", number) for number in range(QUERIES)),
        tuple(kinds),
        shares="playroom",
        said=tuple(_shown("held-out", number).caption for number in range(QUERIES)),
        kinds=tuple(tuple(sprite.name for sprite in sprites() if kind(sprite) == name) for name in kinds),
    )


def _mask(number: int, place: int) -> np.ndarray:
    return compose("held-out", number).objects[place].mask


def _picture(split: str, number: int) -> Load:
    def load() -> Image.Image:
        return compose(split, number).image  # composed again: 800 scenes would not fit everybody's memory

    return load
