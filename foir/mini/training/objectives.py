"""Training losses of the towers of `mini`, each on one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules, LastBlock
from foir.mini.training.pictures import Things

SOFT_SHARE, SOFT_TEMPERATURE = 0.2, 0.05  # of soft targets
INITIAL_LOG_SCALE, MAX_LOG_SCALE = math.log(1 / 0.05), math.log(100)  # of the learned inverse temperatures
TOUCHED = 0.1  # share of a thing from which on a window shows it
NEVER = -1e4  # a logit that takes no part


class Temperatures(nn.Module):
    """Learned inverse temperatures of whole pictures, of prompted things and of regions, as logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.prompted = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.region = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def clamp(self) -> None:
        """Limit all to 100, as CLIP does."""
        for parameter in self.parameters():
            parameter.data.clamp_(max=MAX_LOG_SCALE)


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch of pictures before the CLS row of the last block is finished.

    Attributes:
        encoder: The image tower.
        block: Its last block.
        half: Whether the blocks compute in bfloat16.
    """

    encoder: Encoder
    block: LastBlock
    half: bool

    def whole(self) -> Tensor:
        """Unit vectors [B, dim] of the pictures with all heads on."""
        attention = self.block.logits.softmax(-1)
        z = (attention.unsqueeze(-2) @ self.block.values.float()).squeeze(-2)
        return self._finish(z, self.block.residual)

    def masked(self, areas: Tensor) -> Tensor:
        """Unit vectors [B, M, dim] of M areas of each picture, bool [B, M, n], as in `foir.regions.ways.masked`."""
        visible = F.pad(areas.float(), (1, 0), value=1.0)
        weights = (self.block.logits - self.block.logits.amax(-1, keepdim=True)).exp()
        shares = weights.unsqueeze(2) * visible.unsqueeze(1)
        z = (shares @ self.block.values.float() / shares.sum(-1, keepdim=True)).transpose(1, 2)
        return self._finish(z, self.block.residual.unsqueeze(1).expand(-1, areas.shape[1], -1))

    def prompted(self, areas: Tensor, rows: Tensor, h_on: int) -> Tensor:
        """Unit vectors [m, dim] under head selection as in `foir.methods.phs` ("sum", "before+scale").

        Args:
            areas: Of the prompts, bool [m, n].
            rows: The picture of each, [m].
            h_on: Heads that are selected.
        """
        attention = self.block.logits.softmax(-1)
        z = (attention.unsqueeze(-2) @ self.block.values.float()).squeeze(-2)
        scores = (attention[rows][:, :, 1:] * areas[:, None]).sum(-1)
        gate = torch.zeros_like(scores).scatter_(-1, scores.topk(h_on, -1).indices, scores.shape[-1] / h_on)
        return self._finish(z[rows] * gate[..., None], self.block.residual[rows])

    def _finish(self, z: Tensor, residual: Tensor) -> Tensor:
        with blocks_precision(self.half):
            cls = self.encoder.layers[-1].tail(z, residual)
        return F.normalize(self.encoder.project(self.encoder.normed(cls)), dim=-1)


def see(encoder: Encoder, pixels: Tensor, share: float, half: bool) -> Seen:
    """Run pictures [B, 3, size, size] up to the last block's CLS row, with a random share of their patches."""
    with blocks_precision(half):
        tokens = encoder.embed(pixels)
        tokens = drop_patches(tokens, share) if share < 1 else tokens
        for layer in encoder.layers[:-1]:
            tokens = _run_block(layer, tokens)
    return Seen(encoder, encoder.open_last_block(tokens.float()), half)  # its logits choose heads: in float32


def drop_patches(tokens: Tensor, share: float) -> Tensor:
    """Keep the CLS token and a random share of the patches of [B, T, d].

    This saves compute, and no two views of a picture are the same (as in FLIP, arXiv 2212.00794).
    """
    order = torch.rand(len(tokens), tokens.shape[1] - 1).argsort(-1)
    kept = order[:, : round(share * order.shape[1])].sort(-1).values
    patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], patches], 1)


def _run_block(layer: BlockModules, x: Tensor) -> Tensor:
    """As the block runs itself, but with attention written out: on CPUs its backward pass takes a third of the time."""
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
    return layer.tail((attention.to(v.dtype) @ v).transpose(-3, -2), x)


def blocks_precision(half: bool) -> torch.autocast | nullcontext[None]:
    """In bfloat16 what is safe in it; weights, norms and losses stay in float32."""
    return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()


@dataclass(frozen=True, eq=False)
class Places:
    """Where the things of a batch are, among all windows of all its pictures.

    Attributes:
        rows: Picture of each thing, [m].
        labels: Of each thing, [m].
        areas: Patches of each thing, bool [m, n].
        best: The window that fits each thing best, as an index into all of them, [m].
        touched: The windows that show a part of each thing, bool [m, B * W].
    """

    rows: Tensor
    labels: Tensor
    areas: Tensor
    best: Tensor
    touched: Tensor

    @classmethod
    def of(cls, things: Sequence[Things], windows: Tensor) -> Places:
        """Those of things on pictures; `windows` are bool [W, n]."""
        rows = torch.from_numpy(np.repeat(np.arange(len(things)), [len(each.labels) for each in things]))
        labels = torch.from_numpy(np.concatenate([each.labels for each in things]))
        areas = torch.from_numpy(np.concatenate([each.areas for each in things]))
        a, w = areas.float(), windows.float()
        shared = a @ w.T
        fit = shared / (a.sum(1, keepdim=True) + w.sum(1) - shared).clamp(min=1)
        best = fit.argmax(1) + rows * len(windows)
        touched = torch.zeros(len(rows), len(things), len(windows), dtype=torch.bool)
        touched[torch.arange(len(rows)), rows] = shared >= TOUCHED * a.sum(1, keepdim=True).clamp(min=1)
        return cls(rows, labels, areas, best, touched.flatten(1))

    def padded(self, count: int) -> tuple[Tensor, Tensor]:
        """The areas by picture, bool [count, M, n], and the column of each thing, [m]."""
        sizes = torch.bincount(self.rows, minlength=count)
        columns = torch.arange(len(self.rows)) - (sizes.cumsum(0) - sizes)[self.rows]
        areas = torch.zeros(count, int(sizes.max()), self.areas.shape[1], dtype=torch.bool)
        areas[self.rows, columns] = self.areas
        return areas, columns


def finding_loss(
    queries: Tensor, windows: Tensor, places: Places, relevance: Tensor, log_scale: Tensor, *,
    own: Tensor | None = None, all_known: bool = True,
) -> Tensor:  # fmt: skip
    """Loss of finding things: a query must choose the windows that fit what is relevant, among all windows of a batch.

    Other windows that show a part of something relevant count neither way.

    Args:
        queries: Unit vectors of pointed things or of words, [q, dim].
        windows: Unit vectors of all windows, [B * W, dim].
        places: Of the things.
        relevance: Of each thing for each query, 0 to 1, [q, m].
        log_scale: Logarithm of the inverse temperature.
        own: Picture of each query [q], in which it need not be found.
        all_known: Windows that show no known thing count as wrong; else they count neither way.
    """
    elsewhere = relevance if own is None else relevance * (own[:, None] != places.rows[None])
    target = torch.zeros(len(queries), len(windows))
    target.scatter_reduce_(1, places.best[None].expand(len(queries), -1), elsewhere, "amax")
    neutral = ((relevance > 0).float() @ places.touched.float() > 0) & (target == 0)
    if not all_known:
        neutral |= ~places.touched.any(0) & (target == 0)
    asked = target.sum(1) > 0
    if not asked.any():
        return queries.new_zeros(())
    logits = (log_scale.exp() * queries[asked] @ windows.T).masked_fill(neutral[asked], NEVER)
    return _soft_cross_entropy(logits, target[asked])


def contrastive_loss(
    images: Tensor, texts: Tensor, owner: Tensor, log_scale: Tensor, text_features: Tensor | None = None
) -> Tensor:
    """Symmetric contrastive loss of images [B, dim] and texts [m, dim].

    Args:
        images: Unit vectors.
        texts: Unit vectors.
        owner: Image row of each text, [m].
        log_scale: Logarithm of the inverse temperature.
        text_features: Unit vectors [m, d] of the texts in a space of text similarity. With them a share `SOFT_SHARE` of
            each target goes to images with similar texts, since in a small set of photos many captions fit several.
    """
    logits = log_scale.exp() * images @ texts.T
    matches = (owner[None] == torch.arange(len(images))[:, None]).float()
    to_text, to_image = matches / matches.sum(1, keepdim=True), matches.T
    if text_features is not None:
        similarity = to_text @ (text_features @ text_features.T)  # mean of an image's texts to all texts
        to_text = (1 - SOFT_SHARE) * to_text + SOFT_SHARE * (similarity / SOFT_TEMPERATURE).softmax(-1)
        to_image = (1 - SOFT_SHARE) * to_image + SOFT_SHARE * (similarity.T / SOFT_TEMPERATURE).softmax(-1)
    return (_soft_cross_entropy(logits, to_text) + _soft_cross_entropy(logits.T, to_image)) / 2


def naming_loss(things: Tensor, names: Tensor, labels: Tensor, log_scale: Tensor) -> Tensor:
    """Cross entropy of the names [k, dim] of things [m, dim]; `labels` [m] are rows of `names`."""
    return F.cross_entropy(log_scale.exp() * things @ names.T, labels)


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with targets [rows, classes] normalised by row."""
    target = target / target.sum(1, keepdim=True)
    return -(target * logits.log_softmax(-1)).sum(-1).mean()
