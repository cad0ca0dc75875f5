"""playroom: composed scenes of toys; held-out scenes have the queries, the sample gallery's scenes are the gallery."""

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
SMALL = (0.01, 0.05)  # area of a prompted object as a share of the image


@register("playroom", Dataset)
def by_category() -> Dataset:
    """Boxes around objects that cover 1 to 5 % of a held-out scene; results with the same category are correct."""
    return _playroom("playroom", lambda sprite: sprite.category, rarest=1)


@register("playroom-instances", Dataset)
def by_instance() -> Dataset:
    """The same boxes; results with the same toy are correct, and at least ten gallery scenes must show it."""
    return _playroom("playroom-instances", lambda sprite: sprite.name, rarest=10)


@register("playroom-captions", CaptionedDataset)
def with_captions() -> CaptionedDataset:
    """The gallery's scenes, each with the sentence that names all of its objects, and their boxes."""
    scenes = [_annotations("gallery", number) for number in range(GALLERY)]
    return CaptionedDataset(
        "playroom-captions",
        _loaders("gallery", GALLERY),
        tuple((scene.caption,) for scene in scenes),
        boxes={"annotated": tuple(tuple(item.box for item in scene.objects) for scene in scenes)},
    )


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


def _playroom(name: str, category: Callable[[Sprite], str], rarest: int) -> Dataset:
    columns = {label: i for i, label in enumerate(sorted({category(sprite) for sprite in sprites()}))}
    gallery = [_annotations("gallery", number).objects for number in range(GALLERY)]
    labels = multi_hot(([columns[category(item.sprite)] for item in objects] for objects in gallery), len(columns))
    findable = labels.sum(0) >= rarest
    queries = [
        Query(number, Prompt.box(*item.box), columns[category(item.sprite)], partial(_mask, number, i))
        for number in range(QUERIES)
        for i, item in enumerate(_annotations("held-out", number).objects)
        if SMALL[0] <= item.share <= SMALL[1] and findable[columns[category(item.sprite)]]
    ]
    return Dataset(
        name,
        _loaders("gallery", GALLERY),
        labels,
        tuple(queries),
        _loaders("held-out", QUERIES),
        tuple(columns),
        shared_gallery="playroom",
        sentences=tuple(_annotations("held-out", number).caption for number in range(QUERIES)),
        category_words=tuple(
            tuple(sprite.name for sprite in sprites() if category(sprite) == label) for label in columns
        ),
    )


def _mask(number: int, i: int) -> np.ndarray:
    return compose("held-out", number).objects[i].mask


def _loaders(split: str, count: int) -> tuple[ImageLoader, ...]:
    return tuple(partial(_image, split, number) for number in range(count))


def _image(split: str, number: int) -> Image.Image:
    return compose(split, number).image  # composed at each call: 800 scenes may not fit into memory
