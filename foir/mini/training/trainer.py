"""Settings and trainer of the towers of `mini`: every step sees photos, collages, composed scenes and boxed photos."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.mini import weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import objectives
from foir.mini.training.collages import collages
from foir.mini.training.objectives import Places, Seen, Temperatures
from foir.mini.training.pictures import Pictures, draw
from foir.mini.training.texts import EncodedTexts
from foir.regions.windows import window_masks

DEFAULT_H_ON = 5  # of `phs`
CATEGORY_WEIGHT = 0.3  # relevance of a toy of the same category; 1 of the same toy
ANCHOR_SCENES = 3  # of a group: one scene, and others with things of it


@dataclass(frozen=True)
class Settings:
    """Hyperparameters, chosen on dev data; see docs/training.md.

    Attributes:
        steps_an_hour: Steps that two CPU cores with bfloat16 instructions do in an hour.
        photos: Photos with captions a step.
        captions: Captions of each.
        crop_share: Share of the photos of which a random crop is seen.
        patch_share: Share of a photo's patches that a step keeps; of all other pictures it sees all.
        collages: Collages of photos a step.
        scenes: Composed scenes a step.
        boxed: Photos with boxes a step.
        collage_weight: Weight of the collages' losses; the photos' is 1.
        scene_weight: Weight of the scenes' losses.
        boxed_weight: Weight of the boxed photos' losses.
        prompted_weight: Of head selection in each of them; regions have 1.
        whole_weight: Of whole scenes and their captions.
        block_learning_rate: Peak learning rate of the backbone's own weights.
        head_learning_rate: Peak learning rate of new parameters, the low-rank updates among them.
        weight_decay: Weight decay.
        ema_decay: Decay of the moving average of the weights, which is what is saved.
        half: Blocks compute in bfloat16.
    """

    steps_an_hour: int = 800
    photos: int = 48
    captions: int = 5
    crop_share: float = 0.5
    patch_share: float = 0.3
    collages: int = 6
    scenes: int = 12
    boxed: int = 10
    collage_weight: float = 0.4
    scene_weight: float = 0.3
    boxed_weight: float = 0.3
    prompted_weight: float = 0.2
    whole_weight: float = 0.2
    block_learning_rate: float = 1e-4
    head_learning_rate: float = 5e-4
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    half: bool = True


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All that is trained on.

    Attributes:
        photos: Photos with captions.
        captions: Their captions.
        caption_rows: For each photo its rows of `captions`.
        caption_features: Unit vectors of the captions by the frozen text model, [captions, 384].
        scenes: Composed scenes.
        scene_captions: Captions of the scenes.
        toys: Names of the toys on them, by the labels of `scenes`.
        known_toys: Labels of toys that training may see.
        categories: Category of each toy as a number, [toys].
        boxed: Photos with boxes of some classes.
        classes: Names of these classes.
    """

    photos: Pictures
    captions: EncodedTexts
    caption_rows: tuple[np.ndarray, ...]
    caption_features: np.ndarray
    scenes: Pictures
    scene_captions: EncodedTexts
    toys: EncodedTexts
    known_toys: np.ndarray
    categories: np.ndarray
    boxed: Pictures
    classes: EncodedTexts


class TowerTrainer:
    """The loss of both towers at each step. A step's random numbers depend on the seed and its number alone."""

    def __init__(self, settings: Settings, data: TrainingData, encoder: Encoder, text: TextHead, *, seed: int) -> None:
        self.settings, self.data, self.encoder, self.text = settings, data, encoder, text
        self.temperatures, self.seed, self.half = Temperatures(), seed, settings.half
        windows = window_masks(encoder.grid)
        self.windows = torch.from_numpy(windows.reshape(len(windows), -1))
        self.h_on = DEFAULT_H_ON
        self._scenes_of: dict[int, list[int]] = defaultdict(list)
        for row, things in enumerate(data.scenes.things):
            for label in set(things.labels.tolist()):
                self._scenes_of[label].append(row)
        self._toy_names = np.full(len(data.categories), -1)  # label to row of the known names
        self._toy_names[data.known_toys] = np.arange(len(data.known_toys))
        self._boxed_share = _balanced([things.labels for things in data.boxed.things])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of all losses of a step, and each of them by name."""
        torch.manual_seed(hash((self.seed, step)) % 2**31)
        rng = np.random.default_rng([self.seed, step])
        self.temperatures.clamp()
        settings, data = self.settings, self.data
        self.h_on = DEFAULT_H_ON if rng.random() < 0.5 else int(rng.integers(weights.HEADS // 4, weights.HEADS))
        parts = [(1.0, self._photo_loss(rows_of_epoch(len(data.photos.pixels), settings.photos, step, self.seed), rng))]
        drawn = [
            ("collage", collages(data.photos, settings.collages, rng)),
            ("scene", draw(data.scenes, self._scene_rows(rng), rng, crops=0.0)),
        ]
        if len(data.boxed.pixels):
            drawn.append(("boxed", draw(data.boxed, self._boxed_rows(rng), rng, crops=settings.crop_share)))
        seen = objectives.see(self.encoder, torch.cat([each.pixels for _, each in drawn]), 1.0, self.half)
        start = 0
        for name, each in drawn:
            rows = torch.arange(start, start + len(each.things))
            own = Seen(seen.encoder, seen.block.take(rows), self.half)
            loss = getattr(self, f"_{name}_loss")(own, Places.of(each.things, self.windows), rng)
            parts.append((getattr(settings, f"{name}_weight"), loss))
            start += len(each.things)
        names = ("photo", *(name for name, _ in drawn))
        total = torch.stack([weight * part for weight, part in parts]).sum()
        return total, {name: float(part.detach()) for name, (_, part) in zip(names, parts, strict=True)}

    def _photo_loss(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Contrast photos, or crops of them, with their captions."""
        data = self.data
        pixels = draw(data.photos, rows, rng, crops=self.settings.crop_share).pixels
        vectors = objectives.see(self.encoder, pixels, self.settings.patch_share, self.half).whole()
        chosen = [rng.permutation(data.caption_rows[row])[: self.settings.captions] for row in rows]
        captions = np.concatenate(chosen)
        owner = torch.from_numpy(np.repeat(np.arange(len(rows)), list(map(len, chosen))))
        features = torch.from_numpy(data.caption_features[captions])
        texts = self._encode(data.captions, captions)
        return objectives.contrastive_loss(vectors, texts, owner, self.temperatures.image, features)

    def _collage_loss(self, seen: Seen, places: Places, rng: np.random.Generator) -> Tensor:
        """Photos on collages and their captions must find each other."""
        windows, things = self._regions(seen, places)
        rows = np.array([rng.choice(self.data.caption_rows[photo]) for photo in places.labels.tolist()])
        texts = self._encode(self.data.captions, rows)
        owner, scales = torch.arange(len(rows)), self.temperatures
        prompted = seen.prompted(places.areas, places.rows, self.h_on)
        same = (places.labels[:, None] == places.labels[None]).float()
        return (
            objectives.contrastive_loss(things, texts, owner, scales.region)
            + objectives.finding_loss(texts, windows, places, same, scales.region)
            + self.settings.prompted_weight * objectives.contrastive_loss(prompted, texts, owner, scales.prompted)
        )

    def _scene_loss(self, seen: Seen, places: Places, rng: np.random.Generator) -> Tensor:
        """A toy and its name must find each other, and the toy, or its category, on other scenes."""
        windows, things = self._regions(seen, places)
        data, scales, settings = self.data, self.temperatures, self.settings
        names, labels = self._encode(data.toys, data.known_toys), torch.from_numpy(self._toy_names)[places.labels]
        asked = torch.from_numpy(np.unique(labels.numpy()))
        categories = torch.from_numpy(data.categories)[places.labels]
        related = torch.where(categories[:, None] == categories[None], CATEGORY_WEIGHT, 0.0)
        related[places.labels[:, None] == places.labels[None]] = 1.0
        prompted, whole = seen.prompted(places.areas, places.rows, self.h_on), seen.whole()
        captions = self._encode(data.scene_captions, self._drawn_scenes)
        owner = torch.arange(len(whole))
        return (
            objectives.naming_loss(things, names, labels, scales.region)
            + objectives.finding_loss(
                names[asked], windows, places, (asked[:, None] == labels[None]).float(), scales.region
            )
            + objectives.finding_loss(things, windows, places, related, scales.region, own=places.rows)
            + settings.prompted_weight * objectives.naming_loss(prompted, names, labels, scales.prompted)
            + settings.whole_weight * objectives.contrastive_loss(whole, captions, owner, scales.image)
        )

    def _boxed_loss(self, seen: Seen, places: Places, rng: np.random.Generator) -> Tensor:
        """The same with classes of things on photos; what has no box may be anything."""
        windows, things = self._regions(seen, places)
        names = self._encode(self.data.classes, np.arange(len(self.data.classes.lengths)))
        scales, labels = self.temperatures, places.labels
        same = (labels[:, None] == labels[None]).float()
        asked = torch.from_numpy(np.unique(labels.numpy()))
        prompted = seen.prompted(places.areas, places.rows, self.h_on)
        named = (asked[:, None] == labels[None]).float()
        return (
            objectives.naming_loss(things, names, labels, scales.region)
            + objectives.finding_loss(names[asked], windows, places, named, scales.region, all_known=False)
            + objectives.finding_loss(things, windows, places, same, scales.region, own=places.rows, all_known=False)
            + self.settings.prompted_weight * objectives.naming_loss(prompted, names, labels, scales.prompted)
        )

    def _regions(self, seen: Seen, places: Places) -> tuple[Tensor, Tensor]:
        """Unit vectors of all windows, [B * W, dim], and of the things, [m, dim]."""
        count, windows = len(seen.block.tokens), len(self.windows)
        areas, columns = places.padded(count)
        vectors = seen.masked(torch.cat([self.windows.expand(count, -1, -1), areas], 1))
        return vectors[:, :windows].flatten(0, 1), vectors[places.rows, windows + columns]

    def _scene_rows(self, rng: np.random.Generator) -> np.ndarray:
        """Groups of scenes that share toys."""
        rows: list[int] = []
        count = min(self.settings.scenes, sum(len(things.labels) > 0 for things in self.data.scenes.things))
        while len(rows) < count:
            anchor = int(rng.integers(len(self.data.scenes.pixels)))
            toys = self.data.scenes.things[anchor].labels
            if anchor in rows or not len(toys):
                continue
            rows.append(anchor)
            for toy in rng.permutation(toys)[: ANCHOR_SCENES - 1].tolist():
                other = int(rng.choice(self._scenes_of[toy]))
                if other not in rows and len(rows) < count:
                    rows.append(other)
        self._drawn_scenes = np.array(rows)
        return self._drawn_scenes

    def _boxed_rows(self, rng: np.random.Generator) -> np.ndarray:
        count = min(self.settings.boxed, int((self._boxed_share > 0).sum()))
        return rng.choice(len(self._boxed_share), count, replace=False, p=self._boxed_share)

    def _encode(self, texts: EncodedTexts, rows: np.ndarray) -> Tensor:
        return self.text(*texts.take(rows))


def _balanced(labels: list[np.ndarray]) -> np.ndarray:
    """How often each picture is drawn: by the rarest class on it, balanced by the square root of their numbers."""
    if not labels:
        return np.zeros(0)
    counts = np.bincount(np.concatenate(labels))
    share = np.array([(counts[own] ** -0.5).max() if len(own) else 0.0 for own in labels])
    return share / share.sum()


def rows_of_epoch(count: int, batch: int, step: int, seed: int) -> np.ndarray:
    """Which of `count` pictures a step sees: each comes once in an epoch."""
    steps = max(1, count // batch)
    order = np.random.default_rng([seed, step // steps, 1]).permutation(count)
    return np.sort(order[step % steps * batch :][:batch])
