"""What the captioner of `mini` learns: to say what a picture shows, and what is pointed at when its queries are pulled.

Pulling is query perturbation as `foir.perturbation.query_perturbation` does it; the captioner meets it while it
learns, so that pointing means something to it. Only scenes have boxes, so only on them is anything pointed at.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.mini import captioner
from foir.mini.training.data import Photos, Pointed
from foir.mini.training.ema_optimizer import Optimiser
from foir.mini.training.objectives import see, thin
from foir.mini.training.trainer import Lessons, Settings, floats, log
from foir.perturbation.query_perturbation import Objects, Perturbation
from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform
from foir.playroom import sprites
from foir.playroom.scenes import THEMES, caption_of, count_names

DEEP = 64  # pictures run through the finished tower at a time
NAMED = 3  # most things of a scene that its caption names; a list of all would teach to list
_Said = list[list[int]]  # a caption's words each


def learn_captions(
    settings: Settings, given: Lessons, photos: Photos, encoder: Encoder, seed: int
) -> captioner.Captioner:
    """A captioner, trained on the tokens that the finished image tower gives its last block."""
    torch.manual_seed(seed)
    words = captioner.vocabulary(
        (text for row in given.rows for text in photos.captions[row]), _scene_words(given.scenes)
    )
    school = _School(settings, given, photos, encoder, captioner.Captioner(words), np.random.default_rng([seed, 1]))
    school.learn()
    return school.writer


class _School:
    """The captioner in training; each method is one kind of lesson and returns its loss."""

    def __init__(
        self,
        settings: Settings,
        given: Lessons,
        photos: Photos,
        encoder: Encoder,
        writer: captioner.Captioner,
        rng: np.random.Generator,
    ) -> None:
        self.settings, self.given, self.rng = settings, given, rng
        self.writer = writer.to(given.device)
        self.said = {row: [writer.encode(text) for text in photos.captions[row]] for row in given.rows.tolist()}
        deep = partial(_deep, encoder, given.device)
        self.whole, self.composed = (deep(kept.tokens) for kept in (given, given.scenes))
        self.places = [_place(text) for text in given.scenes.captions]
        self.filled = np.array([row for row, (_, what) in enumerate(given.scenes.things) if len(what)])

    def learn(self) -> None:
        """Train the captioner in place; what stays is the running average."""
        settings, rows, epochs = self.settings, self.given.rows, self.settings.caption_epochs
        steps = len(rows) // settings.caption_batch
        groups = [{"params": list(self.writer.parameters()), "lr": settings.caption_rate}]
        optimiser = Optimiser(groups, epochs * steps, decay=settings.decay, clip=1.0, memory=settings.memory)
        for epoch in range(epochs):
            started, total = time.perf_counter(), 0.0
            self.writer.train()
            for places in self.rng.permutation(len(rows))[: steps * settings.caption_batch].reshape(steps, -1):
                scenes = self.scenes(settings.caption_scenes) + self.named(settings.caption_scenes // 2)
                loss = self.photos(np.sort(places)) + settings.caption_scene_weight * scenes
                optimiser.step(loss)
                total += loss.item()
            spent = time.perf_counter() - started
            log(f"captions {epoch + 1}/{epochs}: loss {total / steps:.3f}, {spent:.0f} s")
        optimiser.finish()
        self.writer.eval()

    def photos(self, places: np.ndarray) -> Tensor:
        """Photos of which a share of the patches is seen, and some of what people said of each."""
        seen = thin(floats(self.whole[places], self.given.device), self.settings.caption_kept)
        texts: list[_Said] = []
        for row in self.given.rows[places].tolist():
            own = self.said[row]
            texts.append([own[i] for i in self.rng.permutation(len(own))[: self.settings.caption_texts]])
        return self._loss(self.writer.pooler(seen), texts)

    def named(self, count: int) -> Tensor:
        """Scenes of which a few things are named."""
        given, all_sprites = self.given.scenes, sprites()
        rows = self.rng.choice(self.filled, min(count, len(self.filled)), replace=False)
        texts = []
        for row in rows:
            masks, what = given.things[row]
            sizes = masks.sum(1) ** 0.5  # large things first, but small ones now and then
            some = min(len(what), int(self.rng.integers(1, NAMED + 1)))
            chosen = self.rng.choice(len(what), some, replace=False, p=sizes / sizes.sum())
            chosen = chosen[np.argsort(-sizes[chosen], kind="stable")]
            listed = caption_of([count_names(all_sprites[what[i]].name) for i in chosen])
            texts.append([self.writer.encode(f"{listed} {self.places[row]}")])
        return self._loss(self.writer.pooler(floats(self.composed[rows], self.given.device)), texts)

    def scenes(self, count: int) -> Tensor:
        """Scenes on which one thing is pointed at, which is named; every scene with some of its things in turn."""
        given, all_sprites = self.given.scenes, sprites()
        chosen: list[tuple[int, int]] = []
        for row in self.rng.choice(self.filled, min(count, len(self.filled)), replace=False).tolist():
            things = self.rng.permutation(len(given.things[row][1]))[: self.settings.caption_things]
            chosen += [(row, int(thing)) for thing in things]
        texts = []
        for row, thing in chosen:
            name = count_names(all_sprites[given.things[row][1][thing]].name)
            texts.append([self.writer.encode(f"{name} {self.places[row]}")])
        return self._loss(self._pulled(given, self.composed, chosen), texts)

    def _pulled(self, given: Pointed, deep: np.ndarray, chosen: list[tuple[int, int]]) -> Tensor:
        """Pooled pictures, the queries of each pulled at one thing with a strength of its own."""
        rows = [row for row, _ in chosen]
        tokens, pooler = floats(deep[rows], self.given.device), self.writer.pooler
        masks = np.stack([given.things[row][0][thing] for row, thing in chosen])
        # The weight "S" multiplies by the share, which nothing else here depends on: a strength for each picture.
        pulls = self.rng.uniform(1, 2 * captioner.STRENGTH, len(rows)).astype(np.float32)
        objects = Objects(
            torch.arange(len(rows)), torch.from_numpy(np.pad(masks, ((0, 0), (1, 0))).astype(np.float32)),
            torch.from_numpy(pulls),
        ).to(self.given.device)  # fmt: skip
        with torch.no_grad():
            keys = pooler.keys(pooler.norm_keys(tokens))
            pull = Perturbation.of([keys], objects, theta=captioner.THETA, strength=1.0, weight="S")
        queries = PerturbedQueries(pooler.q_proj, captioner.HEADS, site_transform(pull, 0))
        return replace_modules(pooler, {"q_proj": queries})(tokens)

    def _loss(self, pooled: Tensor, texts: list[_Said]) -> Tensor:
        """How badly the next words of each picture's texts are foreseen."""
        flat = [torch.tensor(text) for some in texts for text in some]
        ids = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=-100).to(self.given.device)
        counts = torch.tensor([len(some) for some in texts], device=self.given.device)
        hidden = self.writer.hidden(pooled.repeat_interleave(counts, 0), ids[:, :-1].clamp(min=0))
        wanted = ids[:, 1:]
        real = wanted >= 0  # scoring the vocabulary for padding too would take most of a step
        return F.cross_entropy(self.writer.logits(hidden[real]), wanted[real], label_smoothing=0.1)


@torch.inference_mode()
def _deep(encoder: Encoder, device: str, tokens: np.ndarray) -> np.ndarray:
    """Tokens before the last block, float16 [n, T, 384], from those behind the frozen blocks: a caption is of all."""
    parts = [
        see(encoder, floats(tokens[start : start + DEEP], device)).block.tokens.half().cpu()
        for start in range(0, len(tokens), DEEP)
    ]
    return torch.cat(parts).numpy()


def _place(text: str) -> str:
    """Where a scene is, "in a meadow", from its caption."""
    return next(theme.place for theme in THEMES if text.endswith(f" {theme.place}."))


def _scene_words(scenes: Pointed) -> set[str]:
    """Names of everything that scenes show, with their articles, and the places where they are."""
    shown = {int(thing) for _, what in scenes.things for thing in what}
    return {theme.place for theme in THEMES} | {count_names(sprites()[i].name) for i in sorted(shown)}
