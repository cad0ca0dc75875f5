"""LeGrad relevance maps of the last block as a function of the vector they explain (MaO spec, section 4).

The relevance of the attention from token q to token t is its gradient of the similarity s = <u, f> of a crop's pooled
feature f with a vector u. Before the ReLU it is linear in u: the backbone runs once a crop, and the remaining terms are
written out here by hand. With upstream w = (df/dm)^T u / T, the same for every token since f pools their mean m,

    c = W_2^T (l_2 w)                                gradient at the hidden units of the feed-forward network
    g_q = w + norm_2'(x_q)^T W_1^T (a'(h_q) c)       gradient at token q behind the attention
    G[h, q, t] = <W_o^T (l_1 g_q), v_t> in head h    ds / dA[h, q, t]

W_o^T l_1 norm_2' W_1^T is one matrix for all tokens except for two numbers a token, so that a step costs one large
product, and its gradient another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import Mlp
from foir.errors import Unavailable

# Tensors of each crop; all others are shared.
PER_CROP = ("vectors", "jacobian", "slopes", "values", "inverse_std", "projected", "weighted")


@dataclass(frozen=True, eq=False)
class CropFeatures:
    """K encoded crops, with everything that their maps need.

    Attributes:
        vectors: The encoder's own unit vectors, float32 [K, dim].
        jacobian: df/dm over T, [K, dim, d].
        slopes: a'(h_q), one part for each inner map of the network, [K, T, n * m].
        values: v_t of each head, [K, h, T, d_k].
        inverse_std: 1 / deviation of each token before norm_2, [K, T, 1].
        projected: W_o^T l_1 of each token's normed state, [K, T, d].
        weighted: a'(h_q) times W_1 (gamma times each token's normed state), over d, [K, T, n * m].
        inner: W_o^T l_1 P gamma W_1^T, with P the removal of the mean, [n * m, d].
        outer: W_2^T l_2, [d, m].
        output: W_o^T l_1, [d, d].
        first_patch: Column of the first patch.
        grid: Rows and columns of patches.
    """

    vectors: Tensor
    jacobian: Tensor
    slopes: Tensor
    values: Tensor
    inverse_std: Tensor
    projected: Tensor
    weighted: Tensor
    inner: Tensor
    outer: Tensor
    output: Tensor
    first_patch: int
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.vectors)

    def maps(self, vectors: Tensor) -> Tensor:
        """Relevance of each patch for a vector, not negative, [K, rows, cols].

        Args:
            vectors: One for each crop [K, dim], or one for all [1, dim]; differentiable.
        """
        w = torch.einsum("kad,ka->kd", self.jacobian, vectors.expand(len(self), -1))
        relevance: Tensor = _Relevance.apply(w, self)
        return relevance[:, self.first_patch :].view(len(self), *self.grid)

    def take(self, rows: Tensor) -> CropFeatures:
        """The crops at the given rows, which may repeat."""
        return replace(self, **{name: getattr(self, name)[rows] for name in PER_CROP})


class _Relevance(torch.autograd.Function):
    """Relevance of each token [K, T] for upstream w [K, d]: the mean of ReLU(G) over heads and query rows.

    It runs crop by crop, so that the h * T * T numbers of one stay in the processor's cache: they dominate the cost.
    Each direction is one large product (n * m by d for every token) and one for each head.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, crops: CropFeatures) -> Tensor:
        c = w @ crops.outer
        c = c.repeat(1, crops.slopes.shape[-1] // c.shape[-1])
        direct = w @ crops.output
        heads, tokens, width = crops.values.shape[1:]
        relevance, signs = w.new_empty(len(crops), tokens), crops.values.new_empty(len(crops), heads, tokens, tokens)
        for k in range(len(crops)):
            along = (crops.weighted[k] @ c[k]).unsqueeze(-1)
            g = (crops.slopes[k] * c[k]) @ crops.inner
            g.sub_(along * crops.projected[k]).mul_(crops.inverse_std[k]).add_(direct[k])
            gradient = signs[k]
            torch.bmm(g.view(tokens, heads, width).transpose(0, 1), crops.values[k].transpose(-1, -2), out=gradient)
            relevance[k] = gradient.relu_().sum((0, 1))
            gradient.sign_()  # all that the backward pass needs of it
        ctx.crops, ctx.signs = crops, signs
        return relevance / (heads * tokens)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        crops, signs = ctx.crops, ctx.signs
        heads, tokens, _ = crops.values.shape[1:]
        upstream = upstream / (heads * tokens)
        c, direct = [], []
        for k in range(len(crops)):
            g = torch.bmm(signs[k], crops.values[k] * upstream[k, :, None]).transpose(0, 1).reshape(tokens, -1)
            direct.append(g.sum(0))
            g.mul_(crops.inverse_std[k])
            along = (g * crops.projected[k]).sum(-1)
            c.append(((g @ crops.inner.T).mul_(crops.slopes[k])).sum(0) - along @ crops.weighted[k])
        gathered = torch.stack(c).view(len(c), -1, crops.outer.shape[1]).sum(1)
        return gathered @ crops.outer.T + torch.stack(direct) @ crops.output.T, None


@torch.no_grad()
def encode_crops(encoder: Encoder, pixels: Tensor, batch: int = 16) -> CropFeatures:
    """Run the backbone on crops once.

    Args:
        encoder: Any; all tokens from its first patch on must be patches.
        pixels: Normalised, [K, 3, size, size].
        batch: Crops at a time.

    Raises:
        Unavailable: The encoder's last block is not supported.
    """
    batches = [_encode_batch(encoder, pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in batches]) for name in PER_CROP}
    return replace(batches[0], **joined)


def _encode_batch(encoder: Encoder, pixels: Tensor) -> CropFeatures:
    layer = encoder.layers[-1]
    out: Any = layer.out
    ffn, norm = layer.ffn, layer.norm2
    if not isinstance(ffn, Mlp) or not isinstance(norm, torch.nn.LayerNorm):
        raise Unavailable(f"The last block of {encoder.name} has a form that no relevance map is known for.")
    prefix = encoder.prefix(pixels)
    block = prefix.block
    z = F.scaled_dot_product_attention(block.queries, block.keys, block.values)
    x = _full_precision(block.tokens + layer.scale1(layer.out(z.transpose(1, 2).flatten(2))))
    inverse_std = 1 / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    normed = (x - x.mean(-1, keepdim=True)) * inverse_std
    hidden = [linear(norm(x.to(encoder.dtype))) for linear in ffn.inner]
    last = _full_precision(x + layer.scale2(ffn.outer(ffn.act(*hidden))))
    d = x.shape[-1]
    ones = torch.ones(d, device=x.device, dtype=x.dtype)
    output = layer.scale1(ones)[:, None] * _full_precision(out.weight)
    inner = torch.cat([_full_precision(linear.weight) for linear in ffn.inner]) * _full_precision(norm.weight)
    mean, slopes = last.mean(1), _slopes(ffn, hidden)
    return CropFeatures(
        vectors=encoder.finish(prefix).vectors.to(x.dtype, copy=True),  # out of inference mode, for gradients to pass
        jacobian=_jacobian(encoder, mean) / x.shape[1],
        slopes=slopes,
        values=_full_precision(block.values).clone(),
        inverse_std=inverse_std,
        projected=normed @ output,
        weighted=slopes * (normed @ inner.T) / d,
        inner=(inner - inner.mean(-1, keepdim=True)) @ output,
        outer=layer.scale2(ones)[:, None] * _full_precision(ffn.outer.weight),
        output=output,
        first_patch=block.first_patch,
        grid=encoder.grid,
    )


def _full_precision(x: Tensor) -> Tensor:
    """In float32, or in float64 where the encoder computes in it."""
    return x if x.dtype == torch.float64 else x.float()


def _jacobian(encoder: Encoder, mean: Tensor) -> Tensor:
    """df/dm of each crop, [K, dim, d]: norm, projection and normalisation of the mean token."""

    def pool(m: Tensor) -> Tensor:
        return F.normalize(_full_precision(encoder.project(encoder.norm(m.to(encoder.dtype)))), dim=-1)

    with torch.enable_grad():
        jacobian: Tensor = torch.func.vmap(torch.func.jacrev(pool))(mean.clone())
    return jacobian.detach()


def _slopes(ffn: Mlp, hidden: Sequence[Tensor]) -> Tensor:
    """Slopes a' at the hidden units, with respect to each inner map, [K, T, n * m]."""
    with torch.enable_grad():
        leaves = [h.detach().clone().requires_grad_(True) for h in hidden]
        slopes = torch.autograd.grad(ffn.act(*leaves).sum(), leaves)
    return torch.cat([_full_precision(slope) for slope in slopes], -1)
