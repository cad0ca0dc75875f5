"""playroom: composed scenes of toys; held-out scenes have the queries, the sample gallery's scenes are the gallery.

playroom-dev has scenes of its own, for choosing settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from PIL import Image

from foir.playroom import Sprite, compose, sprites
from foir.prompts import Box, Prompt

from .base import CaptionedDataset, Dataset, ImageLoader, Query, multi_hot
from .registry import register

GALLERY, QUERIES = 600, 200
DEV_GALLERY, DEV_QUERIES = 400, 100
SMALL, ANY = (0.01, 0.05), (0.0, 1.0)  # area of a prompted object as a share of the image
RAREST, DEV_RAREST = 10, 7  # gallery scenes that show a toy, for it to be searched for


@register("playroom-captions", CaptionedDataset)
def with_captions() -> CaptionedDataset:
    """The gallery's scenes, each with the sentence that names all of its objects, and their boxes."""
    gallery = _Scenes("gallery", range(GALLERY))
    return CaptionedDataset(
        "playroom-captions",
        gallery.loaders,
        tuple((scene.caption,) for scene in gallery.annotations),
        boxes={"annotated": tuple(tuple(item.box for item in scene.objects) for scene in gallery.annotations)},
    )


@dataclass(frozen=True)
class _Scenes:
    """Consecutive scenes of a split."""

    split: str
    numbers: range

    @property
    def annotations(self) -> list[_Annotations]:
        """Of each scene."""
        return [_annotations(self.split, number) for number in self.numbers]

    @property
    def loaders(self) -> tuple[ImageLoader, ...]:
        """Of each scene's image."""
        return tuple(partial(_image, self.split, number) for number in self.numbers)


@dataclass(frozen=True)
class _Object:
    """An object on a scene, without its pixels."""

    sprite: Sprite
    box: Box
    share: float


@dataclass(frozen=True)
class _Annotations:
    """The annotations of a scene, without its image."""

    objects: tuple[_Object, ...]
    caption: str


@cache
def _annotations(split: str, number: int) -> _Annotations:
    """Cached because composing a scene takes a fifth of a second, and all data sets here need it."""
    scene = compose(split, number)
    return _Annotations(tuple(_Object(item.sprite, item.box, item.share) for item in scene.objects), scene.caption)


def _category(sprite: Sprite) -> str:
    return sprite.category


def _toy(sprite: Sprite) -> str:
    return sprite.name


def _build(
    name: str, label: Callable[[Sprite], str], rarest: int, shares: tuple[float, float], *, dev: bool = False
) -> Dataset:
    """Boxes around objects of held-out scenes; results with an object of the same label are correct.

    Args:
        name: Registry name.
        label: Of a toy.
        rarest: The fewest gallery scenes that show a label, for it to be searched for.
        shares: The least and the largest share of the image that a prompted object covers.
        dev: Of the scenes for choosing settings.
    """
    gallery, asked = _Scenes("gallery", range(GALLERY)), _Scenes("held-out", range(QUERIES))
    if dev:
        gallery = _Scenes("dev", range(DEV_GALLERY))
        asked = _Scenes("dev", range(DEV_GALLERY, DEV_GALLERY + DEV_QUERIES))
    columns = {each: i for i, each in enumerate(sorted({label(sprite) for sprite in sprites()}))}
    present = ([columns[label(item.sprite)] for item in scene.objects] for scene in gallery.annotations)
    labels = multi_hot(present, len(columns))
    findable = labels.sum(0) >= rarest
    queries = [
        Query(row, Prompt.box(*item.box), columns[label(item.sprite)], partial(_mask, asked, row, i))
        for row, scene in enumerate(asked.annotations)
        for i, item in enumerate(scene.objects)
        if shares[0] <= item.share <= shares[1] and findable[columns[label(item.sprite)]]
    ]
    return Dataset(
        name,
        gallery.loaders,
        labels,
        tuple(queries),
        asked.loaders,
        tuple(columns),
        shared_gallery="playroom-dev" if dev else "playroom",
        sentences=tuple(scene.caption for scene in asked.annotations),
        category_words=tuple(tuple(sprite.name for sprite in sprites() if label(sprite) == each) for each in columns),
    )


def _mask(scenes: _Scenes, row: int, i: int) -> np.ndarray:
    return compose(scenes.split, scenes.numbers[row]).objects[i].mask


def _image(split: str, number: int) -> Image.Image:
    return compose(split, number).image  # composed at each call: 800 scenes may not fit into memory


for _name, _label, _rarest, _shares in (
    ("playroom", _category, 1, SMALL),
    ("playroom-instances", _toy, RAREST, SMALL),
    ("playroom-things", _category, 1, ANY),
    ("playroom-things-instances", _toy, RAREST, ANY),
):
    register(_name, Dataset)(partial(_build, _name, _label, _rarest, _shares))
register("playroom-dev", Dataset)(partial(_build, "playroom-dev", _category, 1, ANY, dev=True))
register("playroom-dev-instances", Dataset)(partial(_build, "playroom-dev-instances", _toy, DEV_RAREST, ANY, dev=True))
