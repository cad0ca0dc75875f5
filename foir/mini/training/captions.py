"""Trainer of the captioner of `mini`: captions of whole images, and of one object while its queries are perturbed.

The perturbation is that of `foir.perturbation.query_perturbation`; the captioner meets it in training and so learns to
follow prompts. Only scenes have boxes, so only scenes are prompted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.mini import captioner
from foir.mini.training.data import Photos, PromptedImages
from foir.mini.training.ema_optimizer import EmaOptimizer
from foir.mini.training.objectives import drop_patches, run_trained_blocks
from foir.mini.training.trainer import Settings, TrainingData, fit, to_float32
from foir.perturbation.query_perturbation import Objects, Perturbation
from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform
from foir.playroom import sprites
from foir.playroom.scenes import THEMES, counted_name, join_names

ENCODE_BATCH = 64  # images that run through the finished tower at once
MAX_NAMED = 3  # objects that the caption of a whole scene names; a list of all would teach to list
_Texts = list[list[int]]  # word ids of each caption


def train_captioner(
    settings: Settings, data: TrainingData, photos: Photos, encoder: Encoder, seed: int
) -> captioner.Captioner:
    """Train a captioner on the tokens before the last block of the finished image tower."""
    torch.manual_seed(seed)
    captions = (text for row in data.rows for text in photos.captions[row])
    model = captioner.Captioner(captioner.vocabulary(captions, _scene_phrases(data.scenes)))
    rng = np.random.default_rng([seed, 1])
    trainer = _CaptionTrainer(settings, data, photos, encoder, model, rng)
    steps = settings.caption_epochs * (len(data.rows) // settings.caption_batch)
    groups = [{"params": list(model.parameters()), "lr": settings.caption_learning_rate}]
    optimizer = EmaOptimizer(
        groups, steps, weight_decay=settings.weight_decay, max_norm=1.0, ema_decay=settings.ema_decay
    )
    model.train()
    fit("captions", optimizer, trainer.loss, (len(data.rows), settings.caption_batch, settings.caption_epochs), rng)
    return model.eval()


class _CaptionTrainer:
    """The losses of the captioner on random batches."""

    def __init__(
        self,
        settings: Settings,
        data: TrainingData,
        photos: Photos,
        encoder: Encoder,
        model: captioner.Captioner,
        rng: np.random.Generator,
    ) -> None:
        self.settings, self.data, self.rng = settings, data, rng
        self.model = model.to(data.device)
        self.captions = {row: [model.encode(text) for text in photos.captions[row]] for row in data.rows.tolist()}
        self.photo_tokens = _deep_tokens(encoder, data.device, data.tokens)
        self.scene_tokens = _deep_tokens(encoder, data.device, data.scenes.tokens)
        self.scene_places = [_place(text) for text in data.scenes.captions]
        self.nonempty_scenes = np.array([row for row, (_, labels) in enumerate(data.scenes.objects) if len(labels)])

    def loss(self, indices: np.ndarray) -> Tensor:
        """The weighted sum of all losses; `indices` select the photos."""
        count = self.settings.caption_scenes
        scenes = self._prompted_scene_loss(count) + self._scene_loss(count // 2)
        return self._photo_loss(indices) + self.settings.caption_scene_weight * scenes

    def _photo_loss(self, indices: np.ndarray) -> Tensor:
        """Photos with dropped patches and a few of their captions."""
        tokens = drop_patches(
            to_float32(self.photo_tokens[indices], self.data.device), self.settings.caption_patch_share
        )
        texts: list[_Texts] = []
        for row in self.data.rows[indices].tolist():
            captions = self.captions[row]
            order = self.rng.permutation(len(captions))[: self.settings.caption_texts]
            texts.append([captions[i] for i in order])
        return self._cross_entropy(self.model.pooler(tokens), texts)

    def _scene_loss(self, count: int) -> Tensor:
        """Scenes with a caption that names a few objects."""
        rows, texts = self._sample_scenes(count), []
        for row in rows:
            masks, labels = self.data.scenes.objects[row]
            sizes = masks.sum(1) ** 0.5  # prefers large objects, but sometimes draws small ones
            named = min(len(labels), int(self.rng.integers(1, MAX_NAMED + 1)))
            chosen = self.rng.choice(len(labels), named, replace=False, p=sizes / sizes.sum())
            chosen = chosen[np.argsort(-sizes[chosen], kind="stable")]
            texts.append([self._scene_text(row, labels[chosen].tolist())])
        return self._cross_entropy(self.model.pooler(to_float32(self.scene_tokens[rows], self.data.device)), texts)

    def _prompted_scene_loss(self, count: int) -> Tensor:
        """Scenes with one prompted object and its name; each scene once for each of a few objects."""
        pairs: list[tuple[int, int]] = []
        for row in self._sample_scenes(count).tolist():
            labels = self.data.scenes.objects[row][1]
            pairs += [(row, int(i)) for i in self.rng.permutation(len(labels))[: self.settings.caption_objects]]
        texts = [[self._scene_text(row, [self.data.scenes.objects[row][1][i]])] for row, i in pairs]
        return self._cross_entropy(self._pool_prompted(pairs), texts)

    def _sample_scenes(self, count: int) -> np.ndarray:
        return self.rng.choice(self.nonempty_scenes, min(count, len(self.nonempty_scenes)), replace=False)

    def _scene_text(self, row: int, labels: list[int]) -> list[int]:
        names = join_names([counted_name(sprites()[label].name) for label in labels])
        return self.model.encode(f"{names} {self.scene_places[row]}")

    def _pool_prompted(self, pairs: list[tuple[int, int]]) -> Tensor:
        """Pooled scenes, the queries of each perturbed towards one object with a random strength."""
        pooler, rows = self.model.pooler, [row for row, _ in pairs]
        tokens = to_float32(self.scene_tokens[rows], self.data.device)
        masks = np.stack([self.data.scenes.objects[row][0][i] for row, i in pairs])
        # The weight "S" multiplies by `shares`, which nothing else here depends on: a strength for each image.
        strengths = self.rng.uniform(1, 2 * captioner.STRENGTH, len(rows)).astype(np.float32)
        objects = Objects(
            torch.arange(len(rows)), torch.from_numpy(np.pad(masks, ((0, 0), (1, 0))).astype(np.float32)),
            torch.from_numpy(strengths),
        ).to(self.data.device)  # fmt: skip
        with torch.no_grad():
            keys = pooler.keys(pooler.norm_keys(tokens))
            perturbation = Perturbation.from_keys([keys], objects, theta=captioner.THETA, strength=1.0, weight="S")
        queries = PerturbedQueries(pooler.q_proj, captioner.HEADS, site_transform(perturbation, 0))
        return replace_modules(pooler, {"q_proj": queries})(tokens)

    def _cross_entropy(self, pooled: Tensor, texts: list[_Texts]) -> Tensor:
        """Cross entropy of the next words of each image's texts."""
        flat = [torch.tensor(text) for captions in texts for text in captions]
        ids = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=-100).to(self.data.device)
        counts = torch.tensor([len(captions) for captions in texts], device=self.data.device)
        hidden = self.model.hidden(pooled.repeat_interleave(counts, 0), ids[:, :-1].clamp(min=0))
        targets = ids[:, 1:]
        valid = targets >= 0  # scoring the vocabulary for padding too would take most of a step
        return F.cross_entropy(self.model.logits(hidden[valid]), targets[valid], label_smoothing=0.1)


@torch.inference_mode()
def _deep_tokens(encoder: Encoder, device: str, tokens: np.ndarray) -> np.ndarray:
    """Tokens before the last block, float16 [n, T, 384], from those behind the frozen blocks."""
    batches = (tokens[start : start + ENCODE_BATCH] for start in range(0, len(tokens), ENCODE_BATCH))
    features = (run_trained_blocks(encoder, to_float32(batch, device)) for batch in batches)
    return torch.cat([batch.block.tokens.half().cpu() for batch in features]).numpy()


def _place(caption: str) -> str:
    """The place in a scene's caption, "in a meadow"."""
    return next(theme.place for theme in THEMES if caption.endswith(f" {theme.place}."))


def _scene_phrases(scenes: PromptedImages) -> set[str]:
    """Names of all objects on scenes, with their articles, and all places."""
    labels = {int(label) for _, labels in scenes.objects for label in labels}
    return {theme.place for theme in THEMES} | {counted_name(sprites()[label].name) for label in sorted(labels)}
