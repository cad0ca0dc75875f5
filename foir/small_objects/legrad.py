"""LeGrad relevance maps of the last block, opened as a function of the vector they explain (MaO spec, section 4).

How much the attention from token q to token t would raise the similarity s = <u, f> of a crop's pooled feature f with a
vector u is, before the ReLU, linear in u: the backbone runs once a crop, and what is left is written out here by hand.
With upstream w = (df/dm)^T u / T, the same for every token since f pools their mean m,

    c = W_2^T (l_2 w)                                what reaches the hidden units of the feed-forward network
    g_q = w + norm_2'(x_q)^T W_1^T (a'(h_q) c)       what reaches token q behind the attention
    G[h, q, t] = <W_o^T (l_1 g_q), v_t> in head h    ds / dA[h, q, t]

and W_o^T l_1 norm_2' W_1^T is one matrix for all tokens but for two numbers a token, so that a step costs one large
product, and its gradient another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules, Mlp
from foir.errors import Unavailable

# Tensors of each crop; the others are shared by all.
OWN = ("vectors", "back", "slopes", "values", "spread", "turned", "leaning")


@dataclass(frozen=True, eq=False)
class Crops:
    """K crops behind the backbone, and all that their maps need.

    Attributes:
        vectors: The encoder's own unit vectors, float32 [K, dim].
        back: df/dm over T, [K, dim, d].
        slopes: a'(h_q), one part for each inner map of the network, [K, T, n * m].
        values: v_t of each head, [K, h, T, d_k].
        spread: 1 / deviation of each token before norm_2, [K, T, 1].
        turned: W_o^T l_1 of each token's normed state, [K, T, d].
        leaning: a'(h_q) times W_1 (gamma times each token's normed state), over d, [K, T, n * m].
        mixing: W_o^T l_1 P gamma W_1^T, with P the removal of the mean, [n * m, d].
        outer: W_2^T l_2, [d, m].
        passed: W_o^T l_1, [d, d].
        first_patch: Column of the first patch.
        grid: Rows and columns of patches.
    """

    vectors: Tensor
    back: Tensor
    slopes: Tensor
    values: Tensor
    spread: Tensor
    turned: Tensor
    leaning: Tensor
    mixing: Tensor
    outer: Tensor
    passed: Tensor
    first_patch: int
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.vectors)

    def maps(self, vectors: Tensor) -> Tensor:
        """How much each patch speaks for a vector, not negative, [K, rows, cols].

        Args:
            vectors: One for each crop [K, dim], or one for all [1, dim]; differentiable.
        """
        w = torch.einsum("kad,ka->kd", self.back, vectors.expand(len(self), -1))
        relevance: Tensor = _Relevance.apply(w, self)
        return relevance[:, self.first_patch :].view(len(self), *self.grid)

    def take(self, rows: Tensor) -> Crops:
        """Some of the crops."""
        shared = {"mixing": self.mixing, "outer": self.outer, "passed": self.passed}
        return Crops(
            **{name: getattr(self, name)[rows] for name in OWN}, **shared, first_patch=self.first_patch, grid=self.grid
        )


class _Relevance(torch.autograd.Function):
    """Relevance of each token [K, T] for upstream w [K, d]: the mean of ReLU(G) over heads and query rows.

    Crop by crop, so that the h * T * T numbers of one stay in the processor's cache: they are what this costs. Both
    directions are one large product each (n * m by d for every token) and one for each head.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, crops: Crops) -> Tensor:
        c = w @ crops.outer
        c = c.repeat(1, crops.slopes.shape[-1] // c.shape[-1])
        direct = w @ crops.passed
        heads, tokens, width = crops.values.shape[1:]
        relevance, positive = w.new_empty(len(crops), tokens), crops.values.new_empty(len(crops), heads, tokens, tokens)
        for k in range(len(crops)):
            along = (crops.leaning[k] @ c[k]).unsqueeze(-1)
            g = (crops.slopes[k] * c[k]) @ crops.mixing
            g.sub_(along * crops.turned[k]).mul_(crops.spread[k]).add_(direct[k])
            each = positive[k]
            torch.bmm(g.view(tokens, heads, width).transpose(0, 1), crops.values[k].transpose(-1, -2), out=each)
            relevance[k] = each.relu_().sum((0, 1))
            each.sign_()  # all that the other direction needs of it
        ctx.crops, ctx.positive = crops, positive
        return relevance / (heads * tokens)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        crops, positive = ctx.crops, ctx.positive
        heads, tokens, _ = crops.values.shape[1:]
        upstream = upstream / (heads * tokens)
        c, direct = [], []
        for k in range(len(crops)):
            g = torch.bmm(positive[k], crops.values[k] * upstream[k, :, None]).transpose(0, 1).reshape(tokens, -1)
            direct.append(g.sum(0))
            g.mul_(crops.spread[k])
            along = (g * crops.turned[k]).sum(-1)
            c.append(((g @ crops.mixing.T).mul_(crops.slopes[k])).sum(0) - along @ crops.leaning[k])
        gathered = torch.stack(c).view(len(c), -1, crops.outer.shape[1]).sum(1)
        return gathered @ crops.outer.T + torch.stack(direct) @ crops.passed.T, None


@torch.no_grad()
def crops(encoder: Encoder, pixels: Tensor, batch: int = 16) -> Crops:
    """Run the backbone on crops once and keep what their maps need.

    Args:
        encoder: Any; all tokens behind its patches' first column are patches.
        pixels: Normalised, [K, 3, size, size].
        batch: Crops at a time.

    Raises:
        Unavailable: The encoder's last block has another form.
    """
    parts = [_opened(encoder, pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    return joined(parts)


def joined(parts: Sequence[Crops]) -> Crops:
    """Crops of one encoder, one after the other."""
    first = parts[0]
    return Crops(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in OWN},
        mixing=first.mixing, outer=first.outer, passed=first.passed, first_patch=first.first_patch, grid=first.grid,
    )  # fmt: skip


def _opened(encoder: Encoder, pixels: Tensor) -> Crops:
    layer, mlp, norm = _parts(encoder)
    prefix = encoder.prefix(pixels)
    block = prefix.block
    z = F.scaled_dot_product_attention(block.queries, block.keys, block.values)
    x = wide(block.tokens + layer.scale1(layer.out(z.transpose(1, 2).flatten(2))))
    spread = 1 / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    normed = (x - x.mean(-1, keepdim=True)) * spread
    before = [inner(layer.norm2(x.to(encoder.dtype))) for inner in mlp.inner]
    last = wide(x + layer.scale2(mlp.outer(mlp.act(*before))))
    d = x.shape[-1]
    one = torch.ones(d, device=x.device, dtype=x.dtype)
    passed = layer.scale1(one)[:, None] * weight(layer.out)  # rows: what a channel behind the attention hears of z
    inner = torch.cat([weight(part) for part in mlp.inner])  # [n * m, d]
    scaled = inner * wide(norm.weight)
    mean, slopes = last.mean(1), _slopes(mlp, before)
    return Crops(
        vectors=encoder.finish(prefix).vectors.to(x.dtype, copy=True),  # out of inference mode, for gradients to pass
        back=_jacobian(encoder, mean) / x.shape[1],
        slopes=slopes,
        values=wide(block.values).clone(),
        spread=spread,
        turned=normed @ passed,
        leaning=slopes * (normed @ scaled.T) / d,
        mixing=(scaled - scaled.mean(-1, keepdim=True)) @ passed,
        outer=layer.scale2(one)[:, None] * weight(mlp.outer),
        passed=passed,
        first_patch=block.first_patch,
        grid=encoder.grid,
    )


def _parts(encoder: Encoder) -> tuple[BlockModules, Mlp, Any]:
    layer = encoder.layers[-1]
    if not isinstance(layer.ffn, Mlp) or not isinstance(layer.norm2, torch.nn.LayerNorm):
        raise Unavailable(f"The last block of {encoder.name} has a form that no relevance map is known for.")
    return layer, layer.ffn, layer.norm2


def weight(linear: Any) -> Tensor:
    """A linear map's matrix, [out, in]."""
    return wide(linear.weight)


def wide(x: Tensor) -> Tensor:
    """In float32, or float64 where that is what the encoder computes in."""
    return x if x.dtype == torch.float64 else x.float()


def _pool(encoder: Encoder, mean: Tensor) -> Tensor:
    """Mean tokens m to pooled features f: norm, projection, unit length."""
    return F.normalize(wide(encoder.project(encoder.norm(mean.to(encoder.dtype)))), dim=-1)


def _jacobian(encoder: Encoder, mean: Tensor) -> Tensor:
    """df/dm of each crop, [K, dim, d]."""
    with torch.enable_grad():
        made: Tensor = torch.func.vmap(torch.func.jacrev(lambda m: _pool(encoder, m)))(mean.clone())
    return made.detach()


def _slopes(mlp: Mlp, before: Sequence[Tensor]) -> Tensor:
    """Slopes a' at the hidden units, with respect to each inner map, [K, T, n * m]."""
    with torch.enable_grad():
        leaves = [h.detach().clone().requires_grad_(True) for h in before]
        slopes = torch.autograd.grad(mlp.act(*leaves).sum(), leaves)
    return torch.cat([wide(slope) for slope in slopes], -1)
