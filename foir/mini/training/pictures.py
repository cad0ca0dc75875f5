"""Pictures to train on, as pixels: photos, and composed scenes, with the things on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name
from tqdm import tqdm

from foir.patches import rasterise
from foir.playroom import compose, sprites
from foir.prompts import Prompt

SIZE, GRID = 224, (16, 16)
SCENE_SIZE = (448, 336)  # of a scene as it is composed; the network sees it squeezed into its square
MIN_CROP, MIN_KEPT = 0.5, 0.6  # area of a random crop, and share of a thing that must be on it to count
MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


class Things(NamedTuple):
    """The things on a picture.

    Attributes:
        boxes: (x0, y0, x1, y1) as fractions of the picture, float32 [m, 4].
        labels: What each is, int [m].
        areas: The patches that each covers, bool [m, 256]; those of its box where no outline is known.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray


NOTHING = Things(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros((0, 256), bool))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a data set: pixels uint8 [n, 224, 224, 3], and the things on each."""

    pixels: np.ndarray
    things: Sequence[Things]
    captions: Sequence[str] = ()


class Drawn(NamedTuple):
    """Pictures as a step sees them: normalised pixels float32 [B, 3, 224, 224], and the things on each."""

    pixels: Tensor
    things: tuple[Things, ...]


def read_pixels(count: int, read: Callable[[int], Image.Image], file: Path) -> np.ndarray:
    """Pixels of pictures, squeezed as the encoder squeezes them, kept in a file: uint8 [count, 224, 224, 3]."""
    if not file.exists():  # complete: it gets its name at the end
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, (count, SIZE, SIZE, 3))
        for row in tqdm(range(count), file.stem, unit="picture"):
            pixels[row] = _squeezed(read(row))
        pixels.flush()
        part.replace(file)
    return np.load(file, mmap_mode="r")


def scenes(count: int, cache: Path) -> Pictures:
    """Composed training scenes; the label of a thing is the index of its sprite in `sprites()`. Kept in `cache`."""
    facts = cache / f"scenes-{count}.json"
    file = cache / f"scenes-{count}.npy"
    if not (facts.exists() and file.exists()):
        with ProcessPoolExecutor() as pool:
            composed = pool.map(_scene, range(count), chunksize=16)
            described: list[Any] = []

            def read(row: int) -> Image.Image:
                image, *description = next(composed)
                described.append(description)
                return image

            file.unlink(missing_ok=True)
            read_pixels(count, read, file)
        part = facts.with_suffix(".part.json")
        part.write_text(json.dumps(described))
        part.replace(facts)
    labels = {sprite.code: i for i, sprite in enumerate(sprites())}
    things = [
        Things(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([labels[code] for code in codes], int),
            np.unpackbits(np.frombuffer(bytes.fromhex("".join(areas)), np.uint8)).reshape(-1, 256).astype(bool),
        )
        for boxes, codes, areas, _ in json.loads(facts.read_text())
    ]
    captions = [caption for *_, caption in json.loads(facts.read_text())]
    return Pictures(np.load(file, mmap_mode="r"), things, captions)


def _scene(number: int) -> tuple[Image.Image, list[list[float]], list[str], list[str], str]:
    """A composed scene, its things' boxes, sprite codes and patches (hexadecimal), and its caption."""
    scene = compose("train", number, size=SCENE_SIZE)
    width, height = SCENE_SIZE
    boxes = [[x0 / width, y0 / height, x1 / width, y1 / height] for x0, y0, x1, y1 in (o.box for o in scene.objects)]
    areas = [rasterise(Prompt(mask=item.mask), SCENE_SIZE, GRID).patches for item in scene.objects]
    packed = [np.packbits(area.reshape(-1)).tobytes().hex() for area in areas]
    return Image.fromarray(_squeezed(scene.image)), boxes, [o.sprite.code for o in scene.objects], packed, scene.caption


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """The patches that boxes in fractions [m, 4] touch, bool [m, 256]."""
    rows, cols = (
        (np.arange(16) + 1 > 16 * boxes[:, low, None] + 1e-6) & (np.arange(16) < 16 * boxes[:, high, None] - 1e-6)
        for low, high in ((1, 3), (0, 2))
    )
    return np.asarray((rows[:, :, None] & cols[:, None]).reshape(len(boxes), 256))


def draw(pictures: Pictures, rows: np.ndarray, rng: np.random.Generator, *, crops: float, boxes: float = 0.5) -> Drawn:
    """Pictures mirrored at random and cropped at random.

    Args:
        pictures: To draw from.
        rows: Which.
        rng: Random numbers.
        crops: Share of them that are cropped.
        boxes: Share of the things whose area is that of their box, whatever outline is known.
    """
    pixels, things = [], []
    for row in rows:
        image = torch.from_numpy(np.array(pictures.pixels[row])).permute(2, 0, 1)
        own = pictures.things[row] if len(pictures.things) else NOTHING
        if rng.random() < crops:
            image, own = _crop(image, own, rng)
        if rng.random() < 0.5:
            image, own = image.flip(-1), _mirrored(own)
        pixels.append(image)
        as_box = rng.random(len(own.labels)) < boxes
        things.append(own._replace(areas=np.where(as_box[:, None], box_areas(own.boxes), own.areas)))
    return Drawn(normalise(torch.stack(pixels)), tuple(things))


def normalise(pixels: Tensor) -> Tensor:
    """Uint8 [B, 3, H, W] to what the encoder takes."""
    return (pixels.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]


def resized(pixels: Tensor, height: int, width: int) -> Tensor:
    """A uint8 picture [3, H, W] in another size, antialiased."""
    values = F.interpolate(pixels[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    return values.round().clamp(0, 255).to(torch.uint8)


def _crop(image: Tensor, things: Things, rng: np.random.Generator) -> tuple[Tensor, Things]:
    """A random part of the picture, and the things of which enough is on it."""
    share, shape = rng.uniform(MIN_CROP, 1), np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    width, height = min(1.0, (share * shape) ** 0.5), min(1.0, (share / shape) ** 0.5)
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    left, upper = round(SIZE * x), round(SIZE * y)
    right, lower = max(left + 1, round(SIZE * (x + width))), max(upper + 1, round(SIZE * (y + height)))
    image = resized(image[:, upper:lower, left:right], SIZE, SIZE)
    origin, extent = np.array([left, upper] * 2) / SIZE, np.array([right - left, lower - upper] * 2) / SIZE
    moved = np.clip((things.boxes - origin) / extent, 0, 1).astype(np.float32)
    kept = _sizes(moved) * extent[0] * extent[1] >= MIN_KEPT * _sizes(things.boxes) - 1e-9
    return image, Things(moved[kept], things.labels[kept], box_areas(moved[kept]))


def _sizes(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _mirrored(things: Things) -> Things:
    boxes = things.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    areas = things.areas.reshape(-1, *GRID)[..., ::-1].reshape(-1, 256)
    return Things(boxes.astype(np.float32), things.labels, areas)


def _squeezed(image: Image.Image) -> np.ndarray:
    if image.size == (SIZE, SIZE):
        return np.asarray(image)
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
