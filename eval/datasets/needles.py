"""needles-playroom: instances that no training scene held, small on scenes of 1 to 12 things and of 30.

needles-dev holds other instances, for choosing settings: those that training scenes may hold.
"""

from __future__ import annotations

from functools import partial

from PIL import Image

from eval.datasets import Instances, Load, Scene, Wanted, instances
from foir.playroom import Scene as Composed
from foir.playroom import Sprite, compose, sprites
from foir.small_objects.crops import DetectedObject, crop_around

SHARES = (0.005, 0.01, 0.02, 0.05)  # of the picture
COUNTS = (1, 3, 6, 12, 2, 4, 8, 30)  # things on a scene, the needle among them
NEEDLES, QUERIES = 24, 2  # how many instances, and renderings of each that are asked for
ASKED = 0.15  # share of its own picture that a wanted thing covers
SIZE = (640, 480)
DEV, FEW = 100_000, 10  # first seed and number of instances of needles-dev


def _build(name: str, size: tuple[int, int], needles: int = NEEDLES, *, dev: bool = False) -> Instances:
    """Each instance lies on a scene of each share; the numbers of things take turns."""
    some = [sprite for sprite in sprites() if sprite.held_out != dev]
    chosen = some[:: len(some) // needles][:needles]
    scenes, queries, first = [], [], DEV if dev else 0
    for i, sprite in enumerate(chosen):
        for j, share in enumerate(SHARES):
            count = COUNTS[(3 * i + 5 * j) % len(COUNTS)]
            composed = partial(_composed, first + len(SHARES) * i + j, size, count - 1, sprite, share)
            part = {"size": f"{100 * share:g} %", "objects": str(count)}
            codes = {thing.sprite.code for thing in composed().objects} if dev else {sprite.code}
            scenes.append(Scene(_picture(composed), partial(_things, composed), frozenset(codes), part))
        for j in range(QUERIES):
            number = first + len(chosen) * len(SHARES) + QUERIES * i + j
            queries.append(Wanted(partial(_close_up, number, sprite), sprite.code))
    return Instances(name, tuple(scenes), tuple(queries))


def _composed(number: int, size: tuple[int, int], others: int, sprite: Sprite, share: float) -> Composed:
    return compose("needles", number, size=size, objects=others, needle=(sprite, share))


def _picture(composed: partial[Composed]) -> Load:
    def load() -> Image.Image:
        return composed().image

    return load


def _close_up(number: int, sprite: Sprite) -> Image.Image:
    scene = _composed(number, SIZE, 2, sprite, ASKED)
    return crop_around(scene.image, next(thing.box for thing in scene.objects if thing.sprite == sprite))


def _things(composed: partial[Composed]) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(thing.box, thing.mask) for thing in composed().objects)


for _width in (320, 640, 1280):
    _name = "needles-playroom" if _width == SIZE[0] else f"needles-playroom-{_width}"
    instances(_name)(partial(_build, _name, (_width, 3 * _width // 4)))
instances("needles-dev")(partial(_build, "needles-dev", SIZE, FEW, dev=True))
