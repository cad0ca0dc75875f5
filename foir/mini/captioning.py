"""What the captioner of `mini` learns: to say what a picture shows, and what is pointed at when its queries are pulled.

Pulling is query perturbation as `foir.crossmodal.qperturb` does it; the captioner meets it while it learns, so that
pointing means something to it. Only scenes have boxes, so only on them is anything pointed at.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.crossmodal.qperturb import Objects, Perturbation
from foir.crossmodal.view import PulledQueries, at, view
from foir.encoders.base import Encoder
from foir.mini import caption
from foir.mini.learning import Lessons, Settings, floats, log
from foir.mini.lessons import Photos, Pointed
from foir.mini.objectives import see, thin
from foir.mini.optimise import Optimiser
from foir.playroom import sprites
from foir.playroom.scenes import THEMES, counted, spoken

DEEP = 64  # pictures run through the finished tower at a time
NAMED = 3  # most things of a scene that its caption names; a list of all would teach to list
_Said = list[list[int]]  # a caption's words each


def learn_captions(settings: Settings, given: Lessons, photos: Photos, encoder: Encoder, seed: int, out: Path) -> None:
    """Train a captioner on the tokens that the finished image tower gives its last block, and write it to `out`."""
    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    names = [*_scene_words(given.scenes)]
    words = caption.vocabulary((text for row in given.rows for text in photos.captions[row]), names)
    school = _School(settings, given, photos, encoder, caption.Captioner(words).to(given.device), rng)
    steps = len(given.rows) // settings.caption_batch
    groups = [{"params": list(school.writer.parameters()), "lr": settings.caption_rate}]
    total_steps = settings.caption_epochs * steps
    optimiser = Optimiser(groups, total_steps, decay=settings.decay, clip=1.0, memory=settings.memory)
    for epoch in range(settings.caption_epochs):
        started, total = time.perf_counter(), 0.0
        school.writer.train()
        for places in rng.permutation(len(given.rows))[: steps * settings.caption_batch].reshape(steps, -1):
            loss = school.photos(np.sort(places)) + settings.caption_scene_weight * school.scenes()
            optimiser.step(loss)
            total += loss.item()
        spent = time.perf_counter() - started
        log(f"captions {epoch + 1}/{settings.caption_epochs}: loss {total / steps:.3f}, {spent:.0f} s")
    optimiser.finish()
    caption.write(school.writer.eval(), out / caption.FILE.name)


class _School:
    """The captioner in training; each method is one kind of lesson and returns its loss."""

    def __init__(
        self, settings: Settings, given: Lessons, photos: Photos, encoder: Encoder, writer: caption.Captioner,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.settings, self.given, self.writer, self.rng = settings, given, writer, rng
        self.said = {row: [writer.encode(text) for text in photos.captions[row]] for row in given.rows.tolist()}
        deep = partial(_deep, encoder, given.device)
        self.whole, self.composed = (deep(kept.tokens) for kept in (given, given.scenes))
        self.places = [_place(text) for text in given.scenes.captions]
        self.filled = np.array([row for row, (_, what) in enumerate(given.scenes.things) if len(what)])

    def photos(self, places: np.ndarray) -> Tensor:
        """Photos of which a share of the patches is seen, and some of what people said of each."""
        seen = thin(floats(self.whole[places], self.given.device), self.settings.caption_kept)
        texts: list[_Said] = []
        for row in self.given.rows[places].tolist():
            own = self.said[row]
            texts.append([own[i] for i in self.rng.permutation(len(own))[: self.settings.caption_texts]])
        return self._loss(self.writer.pooler(seen), texts)

    def scenes(self) -> Tensor:
        """Scenes: a few of their things are named, or the one that is pointed at."""
        given, all_sprites = self.given.scenes, sprites()
        rows = self.rng.choice(self.filled, min(self.settings.caption_scenes, len(self.filled)), replace=False)
        pointed, plain = np.split(rows, [len(rows) // 2])
        chosen, texts = [], []
        for row in pointed:
            _, what = given.things[row]
            chosen.append(int(self.rng.integers(len(what))))
            name = counted(all_sprites[what[chosen[-1]]].name)
            texts.append([self.writer.encode(f"{name} {self.places[row]}")])
        for row in plain:
            masks, what = given.things[row]
            sizes = masks.sum(1) ** 0.5  # large things first, but small ones now and then
            count = min(len(what), int(self.rng.integers(1, NAMED + 1)))
            some = self.rng.choice(len(what), count, replace=False, p=sizes / sizes.sum())
            some = some[np.argsort(-sizes[some], kind="stable")]
            listed = spoken([counted(all_sprites[what[i]].name) for i in some])
            texts.append([self.writer.encode(f"{listed} {self.places[row]}")])
        pooled = [self.writer.pooler(floats(self.composed[plain], self.given.device))]
        if len(pointed):
            pooled.insert(0, self._pulled(given, self.composed, pointed, chosen))
        return self._loss(torch.cat(pooled), texts)

    def _pulled(self, given: Pointed, deep: np.ndarray, rows: np.ndarray, chosen: list[int]) -> Tensor:
        """Pooled pictures, the queries of each pulled at one thing with a strength of its own."""
        tokens, pooler = floats(deep[rows], self.given.device), self.writer.pooler
        masks = np.stack([given.things[row][0][place] for row, place in zip(rows, chosen, strict=True)])
        # The weight "S" multiplies by the share, which nothing else here depends on: a strength for each picture.
        pulls = self.rng.uniform(1, 2 * caption.STRENGTH, len(rows)).astype(np.float32)
        objects = Objects(
            torch.arange(len(rows)), torch.from_numpy(np.pad(masks, ((0, 0), (1, 0))).astype(np.float32)),
            torch.from_numpy(pulls),
        ).to(self.given.device)  # fmt: skip
        with torch.no_grad():
            keys = pooler.keys(pooler.norm_keys(tokens))
            pull = Perturbation.of([keys], objects, theta=caption.THETA, strength=1.0, weight="S")
        queries = PulledQueries(pooler.q_proj, caption.HEADS, at(pull, 0))
        return view(pooler, {"q_proj": queries})(tokens)

    def _loss(self, pooled: Tensor, texts: list[_Said]) -> Tensor:
        """How badly the next words of each picture's texts are foreseen."""
        flat = [torch.tensor(text) for some in texts for text in some]
        ids = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=-100).to(self.given.device)
        counts = torch.tensor([len(some) for some in texts], device=self.given.device)
        logits = self.writer(pooled.repeat_interleave(counts, 0), ids[:, :-1].clamp(min=0))
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), label_smoothing=0.1)


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
    return {theme.place for theme in THEMES} | {counted(sprites()[i].name) for i in sorted(shown)}
