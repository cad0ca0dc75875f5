"""needles-playroom: held-out toys, small on composed scenes of 1 to 12 and of 30 objects.

needles-dev has other toys, those that training scenes may show, for choosing settings.
"""

from __future__ import annotations

from functools import partial

from PIL import Image

from foir.playroom import Scene as ComposedScene
from foir.playroom import Sprite, compose, sprites
from foir.small_objects.crops import DetectedObject, crop_around

from .base import InstanceDataset, InstanceQuery, Scene
from .registry import register

SHARES = (0.005, 0.01, 0.02, 0.05)  # area of the instance as a share of the image
COUNTS = (1, 3, 6, 12, 2, 4, 8, 30)  # objects on a scene, the instance among them
INSTANCES, QUERIES = 24, 2  # instances, and query images of each
QUERY_SHARE = 0.15  # area of the instance on the image that its query is cropped from
SIZE = (640, 480)
DEV_SEED, DEV_INSTANCES = 100_000, 10  # first seed and number of instances of needles-dev


def _build(name: str, size: tuple[int, int], count: int = INSTANCES, *, dev: bool = False) -> InstanceDataset:
    """One scene of each share for each instance; the object counts alternate."""
    candidates = [sprite for sprite in sprites() if sprite.held_out != dev]
    chosen = candidates[:: len(candidates) // count][:count]
    scenes, queries, seed = [], [], DEV_SEED if dev else 0
    for i, sprite in enumerate(chosen):
        for j, share in enumerate(SHARES):
            objects = COUNTS[(3 * i + 5 * j) % len(COUNTS)]
            scene = partial(_scene, seed + len(SHARES) * i + j, size, objects - 1, sprite, share)
            areas: dict[str, float | None] = dict.fromkeys(item.sprite.code for item in scene().objects) if dev else {}
            areas[sprite.code] = share
            source = f"{seed + len(SHARES) * i + j} {size} {sprite.code}"
            scenes.append(Scene(partial(_image, scene), partial(_objects, scene), areas, objects, source))
        for j in range(QUERIES):
            number = seed + len(chosen) * len(SHARES) + QUERIES * i + j
            queries.append(InstanceQuery(partial(_query_image, number, sprite), sprite.code))
    return InstanceDataset(name, tuple(scenes), tuple(queries))


def _scene(number: int, size: tuple[int, int], others: int, sprite: Sprite, share: float) -> ComposedScene:
    return compose("needles", number, size=size, objects=others, needle=(sprite, share))


def _image(scene: partial[ComposedScene]) -> Image.Image:
    return scene().image


def _objects(scene: partial[ComposedScene]) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(item.box, item.mask) for item in scene().objects)


def _query_image(number: int, sprite: Sprite) -> Image.Image:
    scene = _scene(number, SIZE, 2, sprite, QUERY_SHARE)
    return crop_around(scene.image, next(item.box for item in scene.objects if item.sprite == sprite))


for _width in (320, 640, 1280):
    _name = "needles-playroom" if _width == SIZE[0] else f"needles-playroom-{_width}"
    register(_name, InstanceDataset)(partial(_build, _name, (_width, 3 * _width // 4)))
register("needles-dev", InstanceDataset)(partial(_build, "needles-dev", SIZE, DEV_INSTANCES, dev=True))
