"""The steps of training: what the towers of `mini` learn from each batch, and what the captioner does."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.mini import caption, objectives, towers
from foir.mini.lessons import Photos, Pointed, Read
from foir.mini.objectives import Seen, Temperatures, Things, see, thin, whole
from foir.mini.optimise import Optimiser
from foir.mini.text import TextHead

DEEP = 64  # photos run through the finished tower at a time


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
    caption_epochs: int = 6
    caption_batch: int = 32
    caption_texts: int = 3
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
    settings: Settings, given: Lessons, image: towers.ImageTower, text: TextHead, rng: np.random.Generator
) -> None:
    """Train both towers in place, on photos, patchworks and scenes at once; what stays is the running average."""
    pair = _Pair(settings, given, image.opened("in training").to(given.device, torch.float32), text, rng)
    trained = image.trained()
    begun = [name for name in trained if name.startswith("model.") and not name.endswith(towers.UPDATES)]
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
        vectors = whole(self.encoder, see(self.encoder, thin(_floats(tokens, device), self.settings.kept)))
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
        tokens, things = objectives.thin_around(_floats(pictures.tokens[rows], self.given.device), share, things)
        return see(self.encoder, tokens), things

    def _read(self, texts: Read, rows: np.ndarray) -> Tensor:
        return self.text(*texts.take(rows, self.given.device))

    def _some_heads(self) -> int:
        """How many heads a step keeps: the default of `phs` half of the time, else any number from a quarter up."""
        return 5 if self.rng.random() < 0.5 else int(self.rng.integers(towers.HEADS // 4, towers.HEADS))


def learn_captions(
    settings: Settings, given: Lessons, photos: Photos, encoder: Encoder, writer: caption.Captioner,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Train the captioner in place on the tokens that the finished image tower gives its last block."""
    shown = _deep(encoder, given)
    said = [[writer.encode(text) for text in photos.captions[row]] for row in given.rows]
    steps = len(given.rows) // settings.caption_batch
    groups = [{"params": list(writer.parameters()), "lr": settings.caption_rate}]
    total_steps = settings.caption_epochs * steps
    optimiser = Optimiser(groups, total_steps, decay=settings.decay, clip=1.0, memory=settings.memory)
    for epoch in range(settings.caption_epochs):
        started, total = time.perf_counter(), 0.0
        writer.train()
        for places in rng.permutation(len(given.rows))[: steps * settings.caption_batch].reshape(steps, -1):
            places = np.sort(places)
            seen = thin(_floats(shown[places], given.device), settings.caption_kept)
            spoken = [rng.permutation(len(said[place]))[: settings.caption_texts] for place in places]
            texts = [torch.tensor(said[p][i]) for p, some in zip(places, spoken, strict=True) for i in some]
            ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-100).to(given.device)
            counts = torch.tensor([len(some) for some in spoken], device=given.device)
            pooled = writer.pooler(seen).repeat_interleave(counts, 0)
            logits = writer(pooled, ids[:, :-1].clamp(min=0))
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), label_smoothing=0.1)
            optimiser.step(loss)
            total += loss.item()
        spent = time.perf_counter() - started
        log(f"captions {epoch + 1}/{settings.caption_epochs}: loss {total / steps:.3f}, {spent:.0f} s")
    optimiser.finish()
    writer.eval()


@torch.inference_mode()
def _deep(encoder: Encoder, given: Lessons) -> np.ndarray:
    """The photos' tokens before the last block, float16 [n, T, 384]: all of them, as a caption is written from."""
    parts = []
    for places in np.array_split(np.arange(len(given.rows)), -(-len(given.rows) // DEEP)):
        parts.append(see(encoder, _floats(given.tokens[places], given.device)).block.tokens.half().cpu())
    return torch.cat(parts).numpy()


def _floats(half: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(half).to(device).float()


def log(line: str) -> None:
    """Say how training goes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
