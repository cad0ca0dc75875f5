"""One pre-norm transformer block of any library, and the last block split at its CLS row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

Map = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """No LayerScale, no projection."""
    return x


@dataclass(frozen=True, eq=False)
class Mlp:
    """A feed-forward network: outer(act(inner_1(x), ..., inner_n(x))); n is 2 where it is gated."""

    inner: tuple[nn.Linear, ...]
    act: Callable[..., Tensor]
    outer: nn.Linear

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the network to [..., d]."""
        return self.outer(self.act(*(inner(x) for inner in self.inner)))


@dataclass(frozen=True, eq=False)
class BlockModules:
    """The modules of a block: x + scale1(out(attention(qkv(norm1(x))))), then y + scale2(ffn(norm2(y))).

    `qkv` maps [..., T, d] to three tensors of that shape; `out` is W_o with its bias; `ffn` is an `Mlp` in every
    encoder of foir.
    """

    heads: int
    norm1: Map
    qkv: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    out: Map
    norm2: Map
    ffn: Map
    scale1: Map = identity
    scale2: Map = identity

    def split(self, x: Tensor) -> Tensor:
        """[..., T, d] to [..., h, T, d_k]."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(-3, -2)

    def __call__(self, x: Tensor, cls_attention: Callable[[LastBlock], Tensor] | None = None) -> Tensor:
        """Run the whole block on [B, T, d].

        Args:
            x: Tokens.
            cls_attention: `(block) -> attention of the CLS row [B, h, T]`, in place of the block's own.
        """
        q, k, v = map(self.split, self.qkv(self.norm1(x)))
        z = F.scaled_dot_product_attention(q, k, v)
        if cls_attention is not None:
            row = cls_attention(LastBlock(self, x, k, v, _cls_logits(q, k)))
            cls = (row.unsqueeze(-2) @ full_precision(v)).to(v.dtype)
            z = torch.cat([cls, z[..., 1:, :]], dim=-2)
        return self.tail(z.transpose(-3, -2), x)

    def tail(self, z: Tensor, residual: Tensor, channels: Tensor | None = None) -> Tensor:
        """From head outputs z [..., h, d_k] and the block's input [..., d] to the block's output [..., d].

        `channels` [d] scales the output of W_o before the residual is added.
        """
        mixed = self.out(z.flatten(-2))
        if channels is not None:
            mixed = mixed * channels
        y = residual + self.scale1(mixed)
        return y + self.scale2(self.ffn(self.norm2(y)))

    def open(self, x: Tensor) -> LastBlock:
        """Split the block at its CLS row on tokens [B, T, d] (q_0, all K, all V and x_0)."""
        q, k, v = self.qkv(self.norm1(x))
        k, v = self.split(k), self.split(v)
        return LastBlock(self, x, k, v, _cls_logits(self.split(q), k))


@dataclass(frozen=True, eq=False)
class LastBlock:
    """The last block before its CLS row is finished. Leading dimension B in a batch, none after `at`.

    Attributes:
        tokens: The block's input, [B, T, d]; CLS first, then registers, then patches row by row.
        keys: [B, h, T, d_k].
        values: [B, h, T, d_k].
        logits: The CLS row's scaled dot products before softmax, [B, h, T]; float32 in every dtype of the model, for
            the heads that a prompt selects hang on small differences.
        first_patch: Column of the first patch token: 1 + number of registers.
    """

    layer: BlockModules
    tokens: Tensor
    keys: Tensor
    values: Tensor
    logits: Tensor
    first_patch: int = 1

    @property
    def residual(self) -> Tensor:
        """The CLS token at the block's input, [B, d]."""
        return self.tokens[..., 0, :]

    @cached_property
    def queries(self) -> Tensor:
        """Queries of all tokens, [B, h, T, d_k]; computed on first use."""
        return self.layer.split(self.layer.qkv(self.layer.norm1(self.tokens))[0])

    def at(self, i: int) -> LastBlock:
        """The i-th image of the batch, without its batch dimension; a batch of one serves any i."""
        i = 0 if len(self.tokens) == 1 else i
        return LastBlock(self.layer, self.tokens[i], self.keys[i], self.values[i], self.logits[i], self.first_patch)

    def take(self, rows: Tensor) -> LastBlock:
        """A batch of the given rows; a batch of one stays one and broadcasts."""
        if len(self.tokens) == 1:
            return self
        tokens, keys, values, logits = (x[rows] for x in (self.tokens, self.keys, self.values, self.logits))
        return LastBlock(self.layer, tokens, keys, values, logits, self.first_patch)


def full_precision(x: Tensor) -> Tensor:
    """In float32, or in float64 where the encoder computes in it."""
    return x if x.dtype == torch.float64 else x.float()


def _cls_logits(q: Tensor, k: Tensor) -> Tensor:
    q, k = full_precision(q[..., :1, :]), full_precision(k)
    return (q @ k.transpose(-1, -2)).squeeze(-2) / math.sqrt(q.shape[-1])
