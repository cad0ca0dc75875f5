"""What Stage A of MaO learns from: scenes, their objects, and another picture of one of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foir import hub, images
from foir.errors import Unavailable
from foir.playroom import compose, sprites
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

SCENES, FIRST = 2000, 1_000_000  # composed scenes of an epoch; seeds that nothing else trains on
SHARES = (0.005, 0.05)  # of a scene that its needle covers
ASKED = 0.15


@dataclass(frozen=True, eq=False)
class Lesson:
    """A scene.

    Attributes:
        image: RGB.
        things: Its objects; the first is asked for.
        wanted: Another picture of that one alone.
    """

    image: Image.Image
    things: tuple[DetectedObject, ...]
    wanted: Image.Image


def playroom() -> tuple[int, Callable[[int], Lesson]]:
    """Composed scenes with a small sprite in front, and the same sprite on another scene."""
    known = [sprite for sprite in sprites() if not sprite.held_out]

    def lesson(number: int) -> Lesson:
        rng = np.random.default_rng([FIRST, number])
        sprite, share = known[rng.integers(len(known))], float(rng.uniform(*SHARES))
        scene = compose("train", FIRST + 2 * number, objects=int(rng.integers(1, 9)), needle=(sprite, share))
        other = compose("train", FIRST + 2 * number + 1, objects=2, needle=(sprite, ASKED))
        things = sorted(scene.things, key=lambda thing: thing.sprite != sprite)
        box = next(thing.box for thing in other.things if thing.sprite == sprite)
        return Lesson(
            scene.image, tuple(DetectedObject(thing.box, thing.mask) for thing in things), crop_around(other.image, box)
        )

    return SCENES, lesson


def voxdet() -> tuple[int, Callable[[int], Lesson]]:
    """VoxDet's synthetic training scenes (OWID): P2 holds the scenes, P1 each object alone.

    Raises:
        Unavailable: They are not there.
    """
    folder = hub.data_folder() / "VoxDet" / "OWID"
    try:
        data = json.loads((folder / "P2" / "train_annotations.json").read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"VoxDet's training annotations are not at {folder / 'P2'}: put OWID there.") from error
    on: dict[int, list[tuple[int, DetectedObject]]] = {}
    for note in data["annotations"]:
        x, y, width, height = note["bbox"]
        on.setdefault(note["image_id"], []).append((note["category_id"], DetectedObject((x, y, x + width, y + height))))
    scenes = [(Path(entry["file_name"]).name, on[entry["id"]]) for entry in data["images"] if entry["id"] in on]

    def lesson(number: int) -> Lesson:
        name, found = scenes[number]
        rng = np.random.default_rng([1, number])
        asked = int(rng.integers(len(found)))
        things = [found[asked][1], *(thing for place, (_, thing) in enumerate(found) if place != asked)]
        views = sorted((folder / "P1" / str(found[asked][0]) / "rgb").iterdir())
        view = views[rng.integers(len(views))]
        mask = images.read_mask(view.parents[1] / "mask" / view.name)
        return Lesson(
            images.read(folder / "P2" / "images" / name).image,
            tuple(things),
            crop_around(images.read(view).image, bounds(mask > mask.max() / 2)),
        )

    return len(scenes), lesson


DATA: Mapping[str, Callable[[], tuple[int, Callable[[int], Lesson]]]] = {"playroom": playroom, "voxdet": voxdet}
