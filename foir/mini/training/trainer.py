"""The settings of training, and what the towers of `mini` learn from each batch."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.mini import weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import objectives
from foir.mini.training.data import Pointed, Read
from foir.mini.training.ema_optimizer import Optimiser
from foir.mini.training.objectives import Seen, Temperatures, Things, see, thin, whole


@dataclass(frozen=True)
class Settings:
    """What was chosen on the dev list; see docs/mini.md.

    Attributes:
        epochs: Passes over the photos.
        batch: Photos a step.
        captions: Captions of each photo a step.
        parts: Share of the photos of which a step sees a mirrored part instead.
        kept: Share of a photo's patches that a step sees.
        patchwork_kept: The same of a patchwork's.
        scene_kept: The same of a scene's, those of its things before others.
        patchworks: Composed of photos, once.
        scenes: Composed from sprites, once.
        patchwork_batch: Patchworks a step.
        scene_batch: Scenes a step.
        patchwork_weight: Weight of their loss beside the photos'.
        scene_weight: The same of the scenes'.
        block_rate: Peak learning rate of blocks 11 and 12.
        head_rate: Peak learning rate of what starts from nothing, the updates of blocks 9 and 10 too.
        decay: Weight decay.
        memory: Decay of the running average of the weights, which is what is kept.
        caption_epochs: Passes of the captioner over the photos.
        caption_batch: Photos a step of it.
        caption_scenes: Scenes a step of it on which something is pointed at; half as many more are only named.
        caption_things: Things on each of these scenes that are pointed at, one at a time.
        caption_scene_weight: Weight of their loss beside the photos'.
        caption_texts: Captions of each photo that a step of it sees.
        caption_kept: Share of a photo's tokens that a step of it sees.
        caption_rate: Its peak learning rate.
    """

    epochs: int = 6
    batch: int = 128
    captions: int = 5
    parts: float = 0.5
    kept: float = 0.25
    patchwork_kept: float = 0.4
    scene_kept: float = 0.5
    patchworks: int = 1600
    scenes: int = 1600
    patchwork_batch: int = 12
    scene_batch: int = 32
    patchwork_weight: float = 0.3
    scene_weight: float = 0.5
    block_rate: float = 2e-4
    head_rate: float = 1e-3
    decay: float = 0.05
    memory: float = 0.99
    caption_epochs: int = 5
    caption_batch: int = 32
    caption_scenes: int = 16
    caption_things: int = 2
    caption_scene_weight: float = 0.5
    caption_texts: int = 2
    caption_kept: float = 0.5
    caption_rate: float = 1e-3


@dataclass(frozen=True, eq=False)
class Lessons:
    """Everything that is learnt from, behind the frozen parts; the tokens' order is that of `rows`."""

    rows: np.ndarray
    tokens: np.ndarray
    parts: np.ndarray  # the same of a mirrored part of each photo
    captions: Read
    spoken: tuple[np.ndarray, ...]  # the captions of each photo of the whole set
    alike: np.ndarray  # unit vectors of the captions as the text model alone sees them, [captions, 384]
    patchworks: Pointed
    scenes: Pointed
    names: Read  # of the sprites
    families: Tensor  # category of each sprite, as a number
    scene_captions: Read
    device: str


def learn_towers(
    settings: Settings, given: Lessons, image: weights.ImageTower, text: TextHead, rng: np.random.Generator
) -> None:
    """Train both towers in place, on photos, patchworks and scenes at once; what stays is the running average."""
    pair = _Pair(settings, given, image.opened("in training").to(given.device, torch.float32), text, rng)
    trained = image.trained()
    begun = [name for name in trained if name.startswith("model.") and not name.endswith(weights.UPDATES)]
    fresh = [p for name, p in trained.items() if name not in begun]
    new = [*fresh, *text.parameters(), *pair.heat.parameters()]
    groups = [
        {"params": [trained[name].requires_grad_(True) for name in begun], "lr": settings.block_rate},
        {"params": [p.requires_grad_(True) for p in new], "lr": settings.head_rate},
    ]
    steps = len(given.rows) // settings.batch
    optimiser = Optimiser(groups, settings.epochs * steps, decay=settings.decay, clip=5.0, memory=settings.memory)
    text.train()
    for epoch in range(settings.epochs):
        started, total = time.perf_counter(), 0.0
        for places in rng.permutation(len(given.rows))[: steps * settings.batch].reshape(steps, -1):
            loss = pair.photos(np.sort(places))
            loss = loss + settings.patchwork_weight * pair.patchworks() + settings.scene_weight * pair.scenes()
            optimiser.step(loss)
            pair.heat.clamp()
            total += loss.item()
        log(f"towers {epoch + 1}/{settings.epochs}: loss {total / steps:.3f}, {time.perf_counter() - started:.0f} s")
    optimiser.finish()
    text.eval()


class _Pair:
    """Both towers in training; each method is one kind of lesson and returns its loss."""

    def __init__(
        self, settings: Settings, given: Lessons, encoder: Encoder, text: TextHead, rng: np.random.Generator
    ) -> None:
        self.settings, self.given, self.encoder, self.rng = settings, given, encoder, rng
        self.text, self.heat = text.to(given.device), Temperatures().to(given.device)
        self.families = given.families.to(given.device)
        self.filled = [row for row, (_, what) in enumerate(given.scenes.things) if len(what)]

    def photos(self, places: np.ndarray) -> Tensor:
        """Photos, whole or a mirrored part of each, and their captions must find each other."""
        given, device = self.given, self.given.device
        part = self.rng.random(len(places)) < self.settings.parts
        tokens = np.where(part[:, None, None], given.parts[places], given.tokens[places])
        vectors = whole(self.encoder, see(self.encoder, thin(floats(tokens, device), self.settings.kept)))
        spoken = [self.rng.permutation(given.spoken[given.rows[place]])[: self.settings.captions] for place in places]
        said = np.concatenate(spoken)
        owner = torch.from_numpy(np.repeat(np.arange(len(places)), [len(some) for some in spoken])).to(device)
        alike = torch.from_numpy(given.alike[said]).to(device)
        return objectives.pairs(vectors, self._read(given.captions, said), owner, self.heat.whole, alike)

    def patchworks(self) -> Tensor:
        """Pointing at a photo in a patchwork must find its caption."""
        rows = self.rng.choice(len(self.given.patchworks.tokens), self.settings.patchwork_batch, replace=False)
        seen, things = self._shown(self.given.patchworks, np.sort(rows), self.settings.patchwork_kept)
        vectors = objectives.pointed(self.encoder, seen, things, self._some_heads())
        said = np.array([self.rng.choice(self.given.spoken[photo]) for photo in things.what.tolist()])
        texts = self._read(self.given.captions, said)
        return objectives.patchwork(vectors, texts, things.what, self.heat.pointed)

    def scenes(self) -> Tensor:
        """Pointing at a thing in a scene must find its name and other scenes; names and captions their scenes."""
        rows = np.sort(self.rng.choice(self.filled, self.settings.scene_batch, replace=False))
        seen, things = self._shown(self.given.scenes, rows, self.settings.scene_kept)
        return objectives.playroom(
            self.encoder,
            seen,
            things,
            self.families,
            self._read(self.given.names, np.unique(things.what.cpu())),
            self._read(self.given.scene_captions, rows),
            self.heat,
            self._some_heads(),
        )

    def _shown(self, pictures: Pointed, rows: np.ndarray, share: float) -> tuple[Seen, Things]:
        things = Things.of([pictures.things[row] for row in rows], self.given.device)
        tokens, things = objectives.thin_around(floats(pictures.tokens[rows], self.given.device), share, things)
        return see(self.encoder, tokens), things

    def _read(self, texts: Read, rows: np.ndarray) -> Tensor:
        return self.text(*texts.take(rows, self.given.device))

    def _some_heads(self) -> int:
        """How many heads a step keeps: the default of `phs` half of the time, else any number from a quarter up."""
        return 5 if self.rng.random() < 0.5 else int(self.rng.integers(weights.HEADS // 4, weights.HEADS))


def floats(half: np.ndarray, device: str) -> Tensor:
    """Kept tokens in float32 on the device."""
    return torch.tensor(half, device=device).float()


def log(line: str) -> None:
    """Say how training goes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
