"""Trainer of the box head of `mini` (`foir.segment.box_head`), on patches of the finished image tower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.mini.training.box_targets import Targets, box_loss
from foir.mini.training.objectives import blocks_precision
from foir.mini.training.photos import BoxedPhotos
from foir.playroom import compose
from foir.segment.box_head import BoxHead
from foir.segment.patch_features import patch_features

FIRST_SCENE = 900_000  # seeds that nothing else trains on
MOSAIC_SIZES = ((512, 384), (384, 512))


@dataclass(frozen=True)
class ProposalSettings:
    """Hyperparameters of the box head.

    Attributes:
        steps_an_hour: Steps that two CPU cores do in an hour.
        scenes: Composed scenes.
        mosaics: Pictures made of several photos, on which things are small.
        patches: Patches that a step sees.
        photo_background: Weight of what lies in no box on a photo: nothing, or a thing that nobody labelled.
        scene_background: The same on composed scenes, whose things are all known.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        ema_decay: Decay of the moving average of the weights, which is what is saved.
    """

    steps_an_hour: int = 12_000
    scenes: int = 400
    mosaics: int = 500
    patches: int = 8192
    photo_background: float = 0.1
    scene_background: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998


@dataclass(frozen=True, eq=False)
class BoxedScale:
    """Patches of one scale of a picture, float16 [rows, cols, d]; its boxes as fractions; weight of its background."""

    tokens: np.ndarray
    boxes: np.ndarray
    background: float


class ProposalTrainer:
    """The loss of the box head at each step. A step's random numbers depend on the seed and its number alone."""

    def __init__(
        self, settings: ProposalSettings, photos: BoxedPhotos, encoder: Encoder, seed: int, half: bool
    ) -> None:
        """Encode photos, mosaics and scenes, whole and in tiles.

        Args:
            settings: Hyperparameters.
            photos: With boxes.
            encoder: The image tower.
            seed: Random seed.
            half: Whether its blocks compute in bfloat16.
        """
        self.settings, self.seed = settings, seed
        scales: list[BoxedScale] = []
        total = len(photos.files) + settings.mosaics + settings.scenes
        for image, boxes, background in tqdm(_pictures(photos, settings, seed), "pictures", total):
            with blocks_precision(half):
                found = patch_features(encoder, image)
            scales += [BoxedScale(each.tokens.astype(np.float16), boxes, background) for each in found]
        scales.sort(key=lambda scale: scale.tokens.shape)
        self.groups = [list(group) for _, group in groupby(scales, key=lambda scale: scale.tokens.shape)]
        self.model = BoxHead(scales[0].tokens.shape[-1])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a few pictures of one shape, mirrored half of the time."""
        rng = np.random.default_rng([self.seed, step])
        sizes = np.array([len(group) * np.prod(group[0].tokens.shape[:2]) for group in self.groups])
        group = self.groups[rng.choice(len(sizes), p=sizes / sizes.sum())]
        rows, cols = group[0].tokens.shape[:2]
        count = min(len(group), max(1, self.settings.patches // (rows * cols)))
        drawn = [group[i] for i in rng.choice(len(group), count, replace=False)]
        mirrored = rng.random() < 0.5
        tokens = torch.from_numpy(np.stack([scale.tokens for scale in drawn])).float().permute(0, 3, 1, 2)
        boxes = [_mirrored(scale.boxes) if mirrored else scale.boxes for scale in drawn]
        targets = Targets.stack([Targets.of(own, (rows, cols)) for own in boxes])
        predicted, fits = self.model(tokens.flip(-1) if mirrored else tokens)
        background = torch.tensor([scale.background for scale in drawn])[:, None, None].expand(fits.shape)
        place, fit = box_loss(predicted, fits, targets, background)
        return place + fit, {"place": float(place.detach()), "fit": float(fit.detach())}


def _mirrored(boxes: np.ndarray) -> np.ndarray:
    """Boxes of a mirrored picture, as fractions [m, 4]."""
    return np.asarray(boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0])


def _pictures(
    photos: BoxedPhotos, settings: ProposalSettings, seed: int
) -> Iterator[tuple[Image.Image, np.ndarray, float]]:
    """Pictures, the boxes of things on them as fractions [m, 4], and the weight of what is in no box."""
    for row in range(len(photos.files)):
        yield photos.image(row), photos.things[row].boxes, settings.photo_background
    rng = np.random.default_rng([seed, 3])
    for _ in range(settings.mosaics):
        yield *mosaic(photos, rng), settings.photo_background
    for number in range(FIRST_SCENE, FIRST_SCENE + settings.scenes):
        scene = compose("train", number)
        boxes = np.array([item.box for item in scene.objects], float).reshape(-1, 4)
        yield scene.image, boxes / [*scene.image.size, *scene.image.size], settings.scene_background


def mosaic(photos: BoxedPhotos, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """Two by two, or three by three, photos on one picture, and the boxes of all things on them as fractions."""
    size = MOSAIC_SIZES[rng.integers(len(MOSAIC_SIZES))]
    side = int(rng.integers(2, 4))
    width, height = size[0] // side, size[1] // side
    canvas, boxes = Image.new("RGB", size), []
    rows = rng.choice(len(photos.files), min(len(photos.files), side * side), replace=False)
    for cell, row in enumerate(rows.tolist()):
        x, y = cell % side * width, cell // side * height
        canvas.paste(photos.image(row).resize((width, height), Image.Resampling.BICUBIC), (x, y))
        boxes.append(photos.things[row].boxes * [width, height, width, height] + [x, y, x, y])
    return canvas, np.concatenate(boxes) / [*size, *size]
