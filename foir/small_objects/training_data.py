"""Training data of Stage A of MaO: scenes, their objects, and another image of one of them alone."""

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

SCENES, FIRST_SEED = 2000, 1_000_000  # composed scenes of an epoch; seeds that nothing else trains on
NEEDLE_SHARES = (0.005, 0.05)  # of a scene that its needle covers
QUERY_SHARE = 0.15  # of the query's scene that the needle covers


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """A scene and a query.

    Attributes:
        image: RGB.
        objects: Its objects; the first is the query's.
        query: Another image of that object alone.
    """

    image: Image.Image
    objects: tuple[DetectedObject, ...]
    query: Image.Image


def playroom() -> tuple[int, Callable[[int], TrainingScene]]:
    """Composed scenes with a small sprite in front, and the same sprite on another scene."""
    known = [sprite for sprite in sprites() if not sprite.held_out]

    def read(number: int) -> TrainingScene:
        rng = np.random.default_rng([FIRST_SEED, number])
        sprite, share = known[rng.integers(len(known))], float(rng.uniform(*NEEDLE_SHARES))
        count, seed = int(rng.integers(1, 9)), FIRST_SEED + 2 * number
        scene = compose("train", seed, objects=count, needle=(sprite, share))
        other = compose("train", seed + 1, objects=2, needle=(sprite, QUERY_SHARE))
        objects = sorted(scene.objects, key=lambda item: item.sprite != sprite)
        box = next(item.box for item in other.objects if item.sprite == sprite)
        detected = tuple(DetectedObject(item.box, item.mask) for item in objects)
        return TrainingScene(scene.image, detected, crop_around(other.image, box))

    return SCENES, read


def voxdet() -> tuple[int, Callable[[int], TrainingScene]]:
    """VoxDet's synthetic training scenes (OWID): P2 holds the scenes, P1 each object alone.

    Raises:
        Unavailable: They are missing.
    """
    folder = hub.data_folder() / "VoxDet" / "OWID"
    try:
        data = json.loads((folder / "P2" / "train_annotations.json").read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"VoxDet's training annotations are not at {folder / 'P2'}: put OWID there.") from error
    objects: dict[int, list[tuple[int, DetectedObject]]] = {}
    for entry in data["annotations"]:
        x, y, width, height = entry["bbox"]
        item = DetectedObject((x, y, x + width, y + height))
        objects.setdefault(entry["image_id"], []).append((entry["category_id"], item))
    scenes = [
        (Path(entry["file_name"]).name, objects[entry["id"]]) for entry in data["images"] if entry["id"] in objects
    ]

    def read(number: int) -> TrainingScene:
        name, labelled = scenes[number]
        rng = np.random.default_rng([1, number])
        category, queried = labelled[index := int(rng.integers(len(labelled)))]
        others = [item for _, item in [*labelled[:index], *labelled[index + 1 :]]]
        views = sorted((folder / "P1" / str(category) / "rgb").iterdir())
        view = views[rng.integers(len(views))]
        mask = images.read_mask(view.parents[1] / "mask" / view.name)
        query = crop_around(images.read(view).image, bounds(mask > mask.max() / 2))
        return TrainingScene(images.read(folder / "P2" / "images" / name).image, (queried, *others), query)

    return len(scenes), read


SOURCES: Mapping[str, Callable[[], tuple[int, Callable[[int], TrainingScene]]]] = {
    "playroom": playroom,
    "voxdet": voxdet,
}
