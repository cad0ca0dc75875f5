"""Settings and trainer of the towers of `mini`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.mini import weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import objectives
from foir.mini.training.data import EncodedTexts, PromptedImages
from foir.mini.training.ema_optimizer import EmaOptimizer
from foir.mini.training.objectives import BatchObjects, BlockFeatures, Temperatures

DEFAULT_H_ON = 5  # of `phs`


@dataclass(frozen=True)
class Settings:
    """Hyperparameters, selected on the dev list; see docs/training.md.

    Attributes:
        epochs: Passes over the photos.
        batch: Photos a step.
        captions: Captions of each photo a step.
        crop_share: Share of the photos that a step replaces by a mirrored crop.
        patch_share: Share of a photo's patches that a step keeps.
        collage_patch_share: The same for a collage.
        scene_patch_share: The same for a scene; patches of objects are kept first.
        collages: Number of collages of photos.
        scenes: Number of scenes composed from sprites.
        collage_batch: Collages a step.
        scene_batch: Scenes a step.
        collage_weight: Weight of the collage loss; the photos' is 1.
        scene_weight: Weight of the scene loss.
        block_learning_rate: Peak learning rate of blocks 11 and 12.
        head_learning_rate: Peak learning rate of new parameters, the updates of blocks 9 and 10 among them.
        weight_decay: Weight decay.
        ema_decay: Decay of the moving average of the weights, which is what is saved.
        caption_epochs: Passes of the captioner over the photos.
        caption_batch: Photos a step of the captioner.
        caption_scenes: Prompted scenes a step of the captioner; half as many more are captioned as a whole.
        caption_objects: Prompted objects of each of these scenes, one at a time.
        caption_scene_weight: Weight of the captioner's scene loss.
        caption_texts: Captions of each photo a step of the captioner.
        caption_patch_share: Share of a photo's patches that a step of the captioner keeps.
        caption_learning_rate: Peak learning rate of the captioner.
    """

    epochs: int = 6
    batch: int = 128
    captions: int = 5
    crop_share: float = 0.5
    patch_share: float = 0.25
    collage_patch_share: float = 0.4
    scene_patch_share: float = 0.5
    collages: int = 1600
    scenes: int = 1600
    collage_batch: int = 12
    scene_batch: int = 32
    collage_weight: float = 0.3
    scene_weight: float = 0.5
    block_learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    caption_epochs: int = 5
    caption_batch: int = 32
    caption_scenes: int = 16
    caption_objects: int = 2
    caption_scene_weight: float = 0.5
    caption_texts: int = 2
    caption_patch_share: float = 0.5
    caption_learning_rate: float = 1e-3


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All training data behind the frozen parts.

    Attributes:
        rows: The training photos, rows of the whole set.
        tokens: Backbone tokens of each of them, [n, T, 384].
        crop_tokens: The same of a mirrored crop of each.
        captions: Captions of the whole set.
        caption_rows: For each photo of the whole set its rows of `captions`.
        caption_features: Unit vectors of the captions by the frozen text model, [captions, 384].
        collages: Collages of photos.
        scenes: Composed scenes.
        names: Names of the sprites.
        categories: Category of each sprite as a number, [sprites].
        scene_captions: Captions of the scenes.
        device: Device of the training.
    """

    rows: np.ndarray
    tokens: np.ndarray
    crop_tokens: np.ndarray
    captions: EncodedTexts
    caption_rows: tuple[np.ndarray, ...]
    caption_features: np.ndarray
    collages: PromptedImages
    scenes: PromptedImages
    names: EncodedTexts
    categories: Tensor
    scene_captions: EncodedTexts
    device: str


def train_towers(
    settings: Settings, data: TrainingData, image: weights.ImageTower, text: TextHead, rng: np.random.Generator
) -> None:
    """Train both towers in place, on photos, collages and scenes in every step."""
    encoder = image.as_encoder("in training").to(data.device, torch.float32)
    trainer = _TowerTrainer(settings, data, encoder, text, rng)
    parameters = image.trained_parameters()
    pretrained = [name for name in parameters if name.startswith("model.") and not name.endswith(weights.LORA_SUFFIXES)]
    new = [parameter for name, parameter in parameters.items() if name not in pretrained]
    new += [*text.parameters(), *trainer.temperatures.parameters()]
    for parameter in [*parameters.values(), *new]:
        parameter.requires_grad_(True)
    groups = [
        {"params": [parameters[name] for name in pretrained], "lr": settings.block_learning_rate},
        {"params": new, "lr": settings.head_learning_rate},
    ]
    steps = settings.epochs * (len(data.rows) // settings.batch)
    optimizer = EmaOptimizer(
        groups, steps, weight_decay=settings.weight_decay, max_norm=5.0, ema_decay=settings.ema_decay
    )
    text.train()
    fit("towers", optimizer, trainer.loss, (len(data.rows), settings.batch, settings.epochs), rng)
    text.eval()


def fit(
    name: str,
    optimizer: EmaOptimizer,
    loss_of: Callable[[np.ndarray], Tensor],
    plan: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """Minimise `loss_of` a batch of sorted row indices; `plan` is the number of rows, the batch size and the epochs."""
    count, batch, epochs = plan
    steps = count // batch
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for indices in rng.permutation(count)[: steps * batch].reshape(steps, -1):
            loss = loss_of(np.sort(indices))
            optimizer.step(loss)
            total += loss.item()
        log(f"{name} {epoch + 1}/{epochs}: loss {total / steps:.3f}, {time.perf_counter() - start:.0f} s")
    optimizer.finish()


class _TowerTrainer:
    """The losses of both towers on random batches."""

    def __init__(
        self, settings: Settings, data: TrainingData, encoder: Encoder, text: TextHead, rng: np.random.Generator
    ) -> None:
        self.settings, self.data, self.encoder, self.rng = settings, data, encoder, rng
        self.text, self.temperatures = text.to(data.device), Temperatures().to(data.device)
        self.categories = data.categories.to(data.device)
        self.nonempty_scenes = [row for row, (_, labels) in enumerate(data.scenes.objects) if len(labels)]

    def loss(self, indices: np.ndarray) -> Tensor:
        """The weighted sum of all losses; `indices` select the photos."""
        self.temperatures.clamp()
        loss = self._photo_loss(indices)
        settings = self.settings
        return loss + settings.collage_weight * self._collage_loss() + settings.scene_weight * self._scene_loss()

    def _photo_loss(self, indices: np.ndarray) -> Tensor:
        """Contrast photos, or a mirrored crop of each, with their captions."""
        data, device = self.data, self.data.device
        cropped = self.rng.random(len(indices)) < self.settings.crop_share
        tokens = np.where(cropped[:, None, None], data.crop_tokens[indices], data.tokens[indices])
        tokens = objectives.drop_patches(to_float32(tokens, device), self.settings.patch_share)
        vectors = objectives.global_vectors(self.encoder, objectives.run_trained_blocks(self.encoder, tokens))
        chosen = [
            self.rng.permutation(data.caption_rows[data.rows[index]])[: self.settings.captions] for index in indices
        ]
        rows = np.concatenate(chosen)
        owner = torch.from_numpy(np.repeat(np.arange(len(indices)), list(map(len, chosen)))).to(device)
        features = torch.from_numpy(data.caption_features[rows]).to(device)
        texts = self._encode_texts(data.captions, rows)
        return objectives.contrastive_loss(vectors, texts, owner, self.temperatures.image, features)

    def _collage_loss(self) -> Tensor:
        """Contrast prompted photos of collages with their captions."""
        data = self.data
        rows = self.rng.choice(len(data.collages.tokens), self.settings.collage_batch, replace=False)
        features, objects = self._encode(data.collages, np.sort(rows), self.settings.collage_patch_share)
        vectors = objectives.prompted_vectors(self.encoder, features, objects, self._random_h_on())
        captions = np.array([self.rng.choice(data.caption_rows[photo]) for photo in objects.labels.tolist()])
        texts = self._encode_texts(data.captions, captions)
        return objectives.collage_loss(vectors, texts, objects.labels, self.temperatures.object)

    def _scene_loss(self) -> Tensor:
        rows = np.sort(self.rng.choice(self.nonempty_scenes, self.settings.scene_batch, replace=False))
        features, objects = self._encode(self.data.scenes, rows, self.settings.scene_patch_share)
        return objectives.scene_loss(
            self.encoder,
            features,
            objects,
            self.categories,
            self._encode_texts(self.data.names, np.unique(objects.labels.cpu())),
            self._encode_texts(self.data.scene_captions, rows),
            self.temperatures,
            self._random_h_on(),
        )

    def _encode(self, images: PromptedImages, rows: np.ndarray, share: float) -> tuple[BlockFeatures, BatchObjects]:
        objects = BatchObjects.collate([images.objects[row] for row in rows], self.data.device)
        tokens = to_float32(images.tokens[rows], self.data.device)
        tokens, objects = objectives.drop_background_patches(tokens, share, objects)
        return objectives.run_trained_blocks(self.encoder, tokens), objects

    def _encode_texts(self, texts: EncodedTexts, rows: np.ndarray) -> Tensor:
        return self.text(*texts.take(rows, self.data.device))

    def _random_h_on(self) -> int:
        """Number of selected heads of a step: the default of `phs` half of the time, else random from a quarter up."""
        return DEFAULT_H_ON if self.rng.random() < 0.5 else int(self.rng.integers(weights.HEADS // 4, weights.HEADS))


def to_float32(array: np.ndarray, device: str) -> Tensor:
    """Stored float16 tokens in float32 on the device."""
    return torch.tensor(array, device=device).float()


def log(line: str) -> None:
    """Write a progress line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
