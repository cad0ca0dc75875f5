"""What the towers of `mini` are asked to do, each as a loss on one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import LastBlock
from foir.mini.weights import FROZEN

SOFT, ALIKE = 0.2, 0.05  # share of soft targets, and their temperature
KIN = 0.3  # how much a scene with a thing of the same category counts, beside 1 for one with the very same thing
START, SHARPEST = math.log(1 / 0.05), math.log(100)  # of the learned inverse temperatures


class Temperatures(nn.Module):
    """Learned inverse temperatures of whole pictures and of pointed things, as logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Parameter(torch.tensor(START))
        self.pointed = nn.Parameter(torch.tensor(START))

    def clamp(self) -> None:
        """Keep both below 100, as CLIP does."""
        for parameter in self.parameters():
            parameter.data.clamp_(max=SHARPEST)


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch behind the trained blocks: the opened last block, CLS attention [B, h, T], head outputs [B, h, d_k]."""

    block: LastBlock
    attention: Tensor
    z: Tensor


@dataclass(frozen=True, eq=False)
class Things:
    """Pointed things of a batch: rows of the batch [m], patches [m, n] in 0..1, and what they are [m]."""

    rows: Tensor
    patches: Tensor
    what: Tensor

    @classmethod
    def of(cls, things: list[tuple[np.ndarray, np.ndarray]], device: str) -> Things:
        """Collate; one entry a picture."""
        rows = np.repeat(np.arange(len(things)), [len(what) for _, what in things])
        patches = np.concatenate([masks for masks, _ in things]).astype(np.float32)
        what = np.concatenate([what for _, what in things])
        return cls(*(torch.from_numpy(part).to(device) for part in (rows, patches, what)))


def see(encoder: Encoder, tokens: Tensor) -> Seen:
    """Run the trained blocks on trunk tokens [B, T, d]; the last only for its CLS row."""
    for layer in encoder.layers[FROZEN:-1]:
        tokens = layer(tokens)
    block = encoder.layers[-1].open(tokens)
    attention = block.logits.softmax(-1)
    return Seen(block, attention, (attention.unsqueeze(-2) @ block.values).squeeze(-2))


def whole(encoder: Encoder, seen: Seen) -> Tensor:
    """Unit vectors [B, dim] with every head on."""
    return _vectors(encoder, seen.z, seen.block.residual)


def pointed(encoder: Encoder, seen: Seen, things: Things, h_on: int) -> Tensor:
    """Unit vectors [m, dim] under head selection exactly as `foir.methods.phs` does it ("sum", "before+scale")."""
    looks = (seen.attention[things.rows][:, :, -things.patches.shape[1] :] * things.patches[:, None]).sum(-1)
    chosen = looks.topk(h_on, -1).indices
    gate = torch.zeros_like(looks).scatter_(-1, chosen, looks.shape[-1] / h_on)
    return _vectors(encoder, seen.z[things.rows] * gate[..., None], seen.block.residual[things.rows])


def thin(tokens: Tensor, share: float) -> Tensor:
    """The CLS token and a random share of the patches of [B, T, d].

    Less to compute, and no two looks at a picture are the same (as in FLIP, arXiv 2212.00794).
    """
    return _kept(tokens, torch.rand(len(tokens), tokens.shape[1] - 1, device=tokens.device), share)[0]


def thin_around(tokens: Tensor, share: float, things: Things) -> tuple[Tensor, Things]:
    """The same where things are pointed at: patches of things stay before others do."""
    order = torch.rand(len(tokens), tokens.shape[1] - 1, device=tokens.device)
    order = order + torch.zeros_like(order).index_add_(0, things.rows, things.patches).clamp(max=1)
    tokens, keep = _kept(tokens, order, share)
    return tokens, Things(things.rows, things.patches.gather(1, keep[things.rows]), things.what)


def _kept(tokens: Tensor, order: Tensor, share: float) -> tuple[Tensor, Tensor]:
    keep = order.topk(round(order.shape[1] * share), -1).indices.sort(-1).values
    patches = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], patches], 1), keep


def pairs(pictures: Tensor, texts: Tensor, owner: Tensor, scale: Tensor, alike: Tensor | None = None) -> Tensor:
    """Contrast pictures [B, dim] with texts [m, dim] of which `owner` [m] says whose they are, in both directions.

    Args:
        pictures: Unit vectors.
        texts: Unit vectors.
        owner: Row of each text's picture.
        scale: Logarithm of the inverse temperature.
        alike: Unit vectors [m, d] of the texts in a space that knows which of them say the same; a share `SOFT` of each
            target goes to pictures whose texts are alike, since in a small set of photos many captions fit several.
    """
    logits = scale.exp() * pictures @ texts.T
    own = (owner[None] == torch.arange(len(pictures), device=owner.device)[:, None]).float()
    to_text, to_picture = own / own.sum(1, keepdim=True), own.T
    if alike is not None:
        likeness = alike @ alike.T
        spread = to_text @ likeness  # of a picture's texts to all texts, on average
        to_text = (1 - SOFT) * to_text + SOFT * (spread / ALIKE).softmax(-1)
        to_picture = (1 - SOFT) * to_picture + SOFT * (spread.T / ALIKE).softmax(-1)
    return (_soft(logits, to_text) + _soft(logits.T, to_picture)) / 2


def patchwork(vectors: Tensor, texts: Tensor, photo: Tensor, scale: Tensor) -> Tensor:
    """A part of a patchwork must find its own photo's caption among those of all parts, and the other way round."""
    logits = scale.exp() * vectors @ texts.T
    same = (photo[:, None] == photo[None]).float()
    return (_soft(logits, same) + _soft(logits.T, same)) / 2


def playroom(
    encoder: Encoder,
    seen: Seen,
    things: Things,
    families: Tensor,
    named: Tensor,
    captions: Tensor,
    temperatures: Temperatures,
    h_on: int,
) -> Tensor:
    """Pointing at a thing must find its name and other scenes with it or its kin; names and captions find their scenes.

    Args:
        encoder: The image tower.
        seen: Scenes.
        things: What is on them.
        families: Category of every thing that `things.what` can name, [all].
        named: Unit vectors of the names of `things.what.unique()`.
        captions: Unit vectors of the scenes' captions.
        temperatures: Of both kinds of contrast.
        h_on: How many heads stay on.
    """
    vectors, scenes = pointed(encoder, seen, things, h_on), whole(encoder, seen)
    kinds, kind = torch.unique(things.what, return_inverse=True)
    scale = temperatures.pointed.exp()
    to_names = F.cross_entropy(scale * vectors @ named.T, kind)
    holds = scenes.new_zeros(len(scenes), len(kinds))
    holds[things.rows, kind] = 1
    itself = F.one_hot(things.rows, len(scenes)).bool()
    kin = torch.where(families[kinds][:, None] == families[kinds], KIN, 0.0).fill_diagonal_(1)
    others = (kin[kind][:, None] * holds[None]).amax(-1).masked_fill(itself, 0)
    findable = others.sum(1) > 0
    to_scenes = vectors.new_zeros(())
    if findable.any():
        logits = (scale * vectors @ scenes.T).masked_fill(itself, -1e4)
        to_scenes = _soft(logits[findable], others[findable])
    from_names = _soft(scale * named @ scenes.T, holds.T)
    described = pairs(scenes, captions, torch.arange(len(scenes), device=kind.device), temperatures.whole)
    return to_names + to_scenes + from_names + described


def _vectors(encoder: Encoder, z: Tensor, residual: Tensor) -> Tensor:
    return F.normalize(encoder.project(encoder.norm(encoder.layers[-1].tail(z, residual))), dim=-1)


def _soft(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with every row's target spread evenly over its positives."""
    target = target / target.sum(1, keepdim=True)
    return -(target * logits.log_softmax(-1)).sum(-1).mean()
