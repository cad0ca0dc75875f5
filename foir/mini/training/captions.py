"""Trainer of the captioner of `mini`: captions of whole images, and of one object while its queries are perturbed.

The perturbation is that of `foir.perturbation.query_perturbation`; the captioner meets it in training and so learns to
follow prompts. Of pictures with boxes only scenes have captions, so only scenes are prompted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.mini import captioner
from foir.mini.training.objectives import blocks_precision, drop_patches
from foir.mini.training.pictures import Pictures, normalise
from foir.mini.training.trainer import TrainingData, rows_of_epoch
from foir.perturbation.query_perturbation import Objects, Perturbation
from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform
from foir.playroom import sprites
from foir.playroom.scenes import THEMES, counted_name, join_names

ENCODE_BATCH = 32  # images that run through the finished tower at once
MAX_NAMED = 3  # objects that the caption of a whole scene names; a list of all would teach to list
_Texts = list[list[int]]  # word ids of each caption


@dataclass(frozen=True)
class CaptionSettings:
    """Hyperparameters of the captioner.

    Attributes:
        steps_an_hour: Steps that two CPU cores do in an hour.
        scene_pool: Scenes that are encoded, of all.
        photos: Photos a step.
        scenes: Prompted scenes a step; half as many more are captioned as a whole.
        objects: Prompted objects of each of these scenes, one at a time.
        scene_weight: Weight of the scenes' loss; the photos' is 1.
        texts: Captions of each photo a step.
        patch_share: Share of a photo's patches that a step keeps.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        ema_decay: Decay of the moving average of the weights, which is what is saved.
    """

    steps_an_hour: int = 6000
    scene_pool: int = 3000
    photos: int = 32
    scenes: int = 16
    objects: int = 2
    scene_weight: float = 0.5
    texts: int = 2
    patch_share: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99


class CaptionTrainer:
    """The loss of the captioner at each step, on tokens before the last block of the finished image tower."""

    def __init__(
        self,
        settings: CaptionSettings,
        data: TrainingData,
        captions: Sequence[Sequence[str]],
        encoder: Encoder,
        seed: int,
        *,
        half: bool,
    ) -> None:
        """Encode all pictures.

        Args:
            settings: Hyperparameters.
            data: What is trained on.
            captions: Of each of its photos.
            encoder: The image tower.
            seed: Random seed.
            half: Whether its blocks compute in bfloat16.
        """
        self.settings, self.data, self.seed = settings, data, seed
        count = min(settings.scene_pool, len(data.scenes.pixels))
        self.things = data.scenes.things[:count]
        self.nonempty_scenes = np.array([row for row, things in enumerate(self.things) if len(things.labels)])
        words = _scene_phrases({int(label) for things in self.things for label in things.labels})
        self.model = captioner.Captioner(captioner.vocabulary((text for own in captions for text in own), words))
        self.captions = [[self.model.encode(text) for text in own] for own in captions]
        self.scene_places = [_place(text) for text in data.scenes.captions[:count]]
        with blocks_precision(half):
            self.photo_tokens = _deep_tokens(encoder, data.photos, len(captions))
            self.scene_tokens = _deep_tokens(encoder, data.scenes, count)
        self.rng = np.random.default_rng(seed)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of all losses of a step, and each of them by name."""
        torch.manual_seed(hash((self.seed, step)) % 2**31)
        self.rng = np.random.default_rng([self.seed, step, 2])
        settings = self.settings
        photos = self._photo_loss(rows_of_epoch(len(self.captions), settings.photos, step, self.seed))
        scenes = self._prompted_scene_loss(settings.scenes) + self._scene_loss(settings.scenes // 2)
        parts = {"photos": float(photos.detach()), "scenes": float(scenes.detach())}
        return photos + settings.scene_weight * scenes, parts

    def _photo_loss(self, indices: np.ndarray) -> Tensor:
        """Photos with dropped patches and a few of their captions."""
        tokens = drop_patches(torch.from_numpy(self.photo_tokens[indices]).float(), self.settings.patch_share)
        texts: list[_Texts] = []
        for row in indices.tolist():
            captions = self.captions[row]
            order = self.rng.permutation(len(captions))[: self.settings.texts]
            texts.append([captions[i] for i in order])
        return self._cross_entropy(self.model.pooler(tokens), texts)

    def _scene_loss(self, count: int) -> Tensor:
        """Scenes with a caption that names a few objects."""
        rows, texts = self._sample_scenes(count), []
        for row in rows:
            _, labels, areas = self.things[row]
            sizes = areas.sum(1) ** 0.5  # prefers large objects, but sometimes draws small ones
            named = min(len(labels), int(self.rng.integers(1, MAX_NAMED + 1)))
            chosen = self.rng.choice(len(labels), named, replace=False, p=sizes / sizes.sum())
            chosen = chosen[np.argsort(-sizes[chosen], kind="stable")]
            texts.append([self._scene_text(row, labels[chosen].tolist())])
        return self._cross_entropy(self.model.pooler(torch.from_numpy(self.scene_tokens[rows]).float()), texts)

    def _prompted_scene_loss(self, count: int) -> Tensor:
        """Scenes with one prompted object and its name; each scene once for each of a few objects."""
        pairs: list[tuple[int, int]] = []
        for row in self._sample_scenes(count).tolist():
            labels = self.things[row].labels
            pairs += [(row, int(i)) for i in self.rng.permutation(len(labels))[: self.settings.objects]]
        texts = [[self._scene_text(row, [self.things[row].labels[i]])] for row, i in pairs]
        return self._cross_entropy(self._pool_prompted(pairs), texts)

    def _sample_scenes(self, count: int) -> np.ndarray:
        return self.rng.choice(self.nonempty_scenes, min(count, len(self.nonempty_scenes)), replace=False)

    def _scene_text(self, row: int, labels: list[int]) -> list[int]:
        names = join_names([counted_name(sprites()[label].name) for label in labels])
        return self.model.encode(f"{names} {self.scene_places[row]}")

    def _pool_prompted(self, pairs: list[tuple[int, int]]) -> Tensor:
        """Pooled scenes, the queries of each perturbed towards one object with a random strength."""
        pooler, rows = self.model.pooler, [row for row, _ in pairs]
        tokens = torch.from_numpy(self.scene_tokens[rows]).float()
        masks = np.stack([self.things[row].areas[i] for row, i in pairs])
        # The weight "S" multiplies by `shares`, which nothing else here depends on: a strength for each image.
        strengths = self.rng.uniform(1, 2 * captioner.STRENGTH, len(rows)).astype(np.float32)
        objects = Objects(
            torch.arange(len(rows)), torch.from_numpy(np.pad(masks, ((0, 0), (1, 0))).astype(np.float32)),
            torch.from_numpy(strengths),
        )  # fmt: skip
        with torch.no_grad():
            keys = pooler.keys(pooler.norm_keys(tokens))
            perturbation = Perturbation.from_keys([keys], objects, theta=captioner.THETA, strength=1.0, weight="S")
        queries = PerturbedQueries(pooler.q_proj, captioner.HEADS, site_transform(perturbation, 0))
        return replace_modules(pooler, {"q_proj": queries})(tokens)

    def _cross_entropy(self, pooled: Tensor, texts: list[_Texts]) -> Tensor:
        """Cross entropy of the next words of each image's texts."""
        flat = [torch.tensor(text) for captions in texts for text in captions]
        ids = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=-100)
        counts = torch.tensor([len(captions) for captions in texts])
        hidden = self.model.hidden(pooled.repeat_interleave(counts, 0), ids[:, :-1].clamp(min=0))
        targets = ids[:, 1:]
        valid = targets >= 0  # scoring the vocabulary for padding too would take most of a step
        return F.cross_entropy(self.model.logits(hidden[valid]), targets[valid], label_smoothing=0.1)


@torch.inference_mode()
def _deep_tokens(encoder: Encoder, pictures: Pictures, count: int) -> np.ndarray:
    """Tokens before the last block of the first pictures, float16 [count, T, 384]."""
    batches = (pictures.pixels[start : min(start + ENCODE_BATCH, count)] for start in range(0, count, ENCODE_BATCH))
    pixels = (normalise(torch.from_numpy(batch).permute(0, 3, 1, 2)) for batch in batches)
    return np.concatenate([encoder.forward_blocks(batch)[1].half().numpy() for batch in pixels])


def _place(caption: str) -> str:
    """The place in a scene's caption, "in a meadow"."""
    return next(theme.place for theme in THEMES if caption.endswith(f" {theme.place}."))


def _scene_phrases(labels: set[int]) -> set[str]:
    """Names of all objects on scenes, with their articles, and all places."""
    return {theme.place for theme in THEMES} | {counted_name(sprites()[label].name) for label in sorted(labels)}
