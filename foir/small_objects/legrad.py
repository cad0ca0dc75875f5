"""LeGrad relevance maps of the last block as a function of the vector they explain (MaO paper).

The relevance of the attention from token q to token t is its gradient of the similarity s = <u, f> of a crop's pooled
feature f with a vector u. Before the ReLU it is linear in u: the backbone runs once a crop, and the remaining terms are
written out here by hand. With upstream w_q = (df/dz_q)^T u at token q behind the block,

    c_q = W_2^T (l_2 w_q)                            gradient at the hidden units of the feed-forward network
    g_q = w_q + norm_2'(x_q)^T W_1^T (a'(h_q) c_q)   gradient at token q behind the attention
    G[h, q, t] = <W_o^T (l_1 g_q), v_t> in head h    ds / dA[h, q, t]

W_o^T l_1 norm_2' W_1^T is one matrix for all tokens except for two numbers a token, so that a step costs one large
product, and its gradient another. The released code pools in two ways. With a CLS token f is the feature of the mean
token: w_q is the same for every token. Without one (SigLIP) it is the mean of the normed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import Mlp, full_precision
from foir.encoders.patch_pooled import PatchPooledEncoder
from foir.errors import Unavailable

# Tensors of each crop; all others are shared.
PER_CROP = ("vectors", "lengths", "jacobian", "slopes", "values", "inverse_std", "projected", "weighted")
PER_NORM = ("last_normed", "last_inverse_std")  # of encoders without a CLS token


@dataclass(frozen=True, eq=False)
class CropFeatures:
    """K encoded crops, with everything that their maps need.

    Attributes:
        vectors: The encoder's own unit vectors, float32 [K, dim].
        lengths: Length of the features before they were scaled to 1, [K, 1].
        jacobian: Over T: df/dm of the mean token m, or of the mean of tokens that are normed but not yet scaled by the
            norm's gamma, [K, dim, d].
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
        last_normed: Each token behind the block, normed, where f pools these, [K, T, d].
        last_inverse_std: 1 / its deviation, [K, T, 1].
    """

    vectors: Tensor
    lengths: Tensor
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
    last_normed: Tensor | None = None
    last_inverse_std: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def maps(self, vectors: Tensor) -> Tensor:
        """Relevance of each patch for a vector, not negative, [K, rows, cols].

        Args:
            vectors: One for each crop [K, dim], or one for all [1, dim]; differentiable.
        """
        w = torch.einsum("kad,ka->kd", self.jacobian, vectors.expand(len(self), -1))[:, None]
        if self.last_normed is not None and self.last_inverse_std is not None:  # through the norm of each token
            along = (self.last_normed @ w.transpose(1, 2)) / w.shape[-1]
            w = self.last_inverse_std * (w - w.mean(-1, keepdim=True) - self.last_normed * along)
        relevance: Tensor = _Relevance.apply(w, self)
        return relevance[:, self.first_patch :].view(len(self), *self.grid)

    def take(self, rows: Tensor) -> CropFeatures:
        """The crops at the given rows, which may repeat."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _names(self)})


def _names(crops: CropFeatures) -> tuple[str, ...]:
    return PER_CROP if crops.last_normed is None else PER_CROP + PER_NORM


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Products of the rows of x [T, n] with those of y, [T, n] or one for all [1, n], as [T, 1]."""
    return x @ y.T if len(y) == 1 else (x * y).sum(-1, keepdim=True)


class _Relevance(torch.autograd.Function):
    """Relevance of each token [K, T]: the mean of ReLU(G) over heads and query rows.

    Upstream w is that of each token [K, T, d], or one for all [K, 1, d].

    It runs crop by crop, so that the h * T * T numbers of one stay in the processor's cache: they dominate the cost.
    Each direction is one large product (n * m by d for every token) and one for each head.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, crops: CropFeatures) -> Tensor:
        c = w @ crops.outer
        c = c.repeat(1, 1, crops.slopes.shape[-1] // c.shape[-1])
        direct = w @ crops.output
        heads, tokens, width = crops.values.shape[1:]
        relevance, signs = w.new_empty(len(crops), tokens), crops.values.new_empty(len(crops), heads, tokens, tokens)
        for k in range(len(crops)):
            along = _products(crops.weighted[k], c[k])
            g = (crops.slopes[k] * c[k]) @ crops.inner
            g.sub_(along * crops.projected[k]).mul_(crops.inverse_std[k]).add_(direct[k])
            gradient = signs[k]
            torch.bmm(g.view(tokens, heads, width).transpose(0, 1), crops.values[k].transpose(-1, -2), out=gradient)
            relevance[k] = gradient.relu_().sum((0, 1))
            gradient.sign_()  # all that the backward pass needs of it
        ctx.crops, ctx.signs, ctx.shared = crops, signs, w.shape[1] == 1
        return relevance / (heads * tokens)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        crops, signs = ctx.crops, ctx.signs
        heads, tokens, _ = crops.values.shape[1:]
        upstream = upstream / (heads * tokens)
        c, direct = [], []
        for k in range(len(crops)):
            g = torch.bmm(signs[k], crops.values[k] * upstream[k, :, None]).transpose(0, 1).reshape(tokens, -1)
            direct.append(g.sum(0, keepdim=True) if ctx.shared else g.clone())
            g.mul_(crops.inverse_std[k])
            along = (g * crops.projected[k]).sum(-1, keepdim=True)
            slope = (g @ crops.inner.T).mul_(crops.slopes[k])
            c.append(
                slope.sum(0, keepdim=True) - along.T @ crops.weighted[k]
                if ctx.shared
                else slope.addcmul_(along, crops.weighted[k], value=-1)
            )
        parts = torch.stack(c)
        gathered = parts.view(*parts.shape[:2], -1, crops.outer.shape[1]).sum(2)
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
    names = _names(batches[0])
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in batches]) for name in names}
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
    x = full_precision(block.tokens + layer.scale1(layer.out(z.transpose(1, 2).flatten(2))))
    inverse_std = 1 / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    normed = (x - x.mean(-1, keepdim=True)) * inverse_std
    hidden = [linear(norm(x.to(encoder.dtype))) for linear in ffn.inner]
    last = full_precision(x + layer.scale2(ffn.outer(ffn.act(*hidden))))
    d = x.shape[-1]
    ones = torch.ones(d, device=x.device, dtype=x.dtype)
    output = layer.scale1(ones)[:, None] * full_precision(out.weight)
    inner = torch.cat([full_precision(linear.weight) for linear in ffn.inner]) * full_precision(norm.weight)
    slopes = _slopes(ffn, hidden)
    return CropFeatures(
        vectors=encoder.finish(prefix).vectors.to(x.dtype, copy=True),  # out of inference mode, for gradients to pass
        lengths=encoder.raw_feature(last).norm(dim=-1, keepdim=True),
        slopes=slopes,
        values=full_precision(block.values).clone(),
        inverse_std=inverse_std,
        projected=normed @ output,
        weighted=slopes * (normed @ inner.T) / d,
        inner=(inner - inner.mean(-1, keepdim=True)) @ output,
        outer=layer.scale2(ones)[:, None] * full_precision(ffn.outer.weight),
        output=output,
        first_patch=block.first_patch,
        grid=encoder.grid,
        **_pooling(encoder, last),
    )


def _pooling(encoder: Encoder, last: Tensor) -> dict[str, Tensor]:
    """How f pools the tokens [K, T, d] behind the block: its Jacobian, and each token's norm where it pools these."""
    if not isinstance(encoder, PatchPooledEncoder):
        mean = last.mean(1)
        return {"jacobian": _jacobian(lambda m: encoder.project(encoder.normed(m)), mean, last)}
    norm: Any = encoder.norm
    inverse_std = 1 / (last.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    normed = (last - last.mean(-1, keepdim=True)) * inverse_std
    gamma, beta = full_precision(norm.weight), full_precision(norm.bias)
    jacobian = _jacobian(lambda m: m * gamma + beta, normed.mean(1), last)
    return {"jacobian": jacobian, "last_normed": normed, "last_inverse_std": inverse_std}


def _jacobian(pool: Callable[[Tensor], Tensor], mean: Tensor, tokens: Tensor) -> Tensor:
    """Over T: how the unit vector of `pool` changes with the mean over the tokens, [K, dim, d]."""

    def unit(m: Tensor) -> Tensor:
        return F.normalize(full_precision(pool(m)), dim=-1)

    with torch.enable_grad():
        jacobian: Tensor = torch.func.vmap(torch.func.jacrev(unit))(mean.clone())
    return jacobian.detach() / tokens.shape[1]


def _slopes(ffn: Mlp, hidden: Sequence[Tensor]) -> Tensor:
    """Slopes a' at the hidden units, with respect to each inner map, [K, T, n * m]."""
    with torch.enable_grad():
        leaves = [h.detach().clone().requires_grad_(True) for h in hidden]
        slopes = torch.autograd.grad(ffn.act(*leaves).sum(), leaves)
    return torch.cat([full_precision(slope) for slope in slopes], -1)
