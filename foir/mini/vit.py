"""The parameters of a DINOv2 as plain modules, under the names of transformers; `foir.encoders.block` runs them.

transformers' own model would be the same, but importing it takes longer than the rest of a search (docs/results.md).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

EPSILON = 1e-6  # of LayerNorm


class VisionTransformer(nn.Module):
    """A ViT with LayerScale, for pictures of one size."""

    def __init__(self, dim: int, heads: int, blocks: int, patch: int, patches: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(patch_size=patch)
        self.embeddings = Embeddings(dim, patch, patches)
        self.encoder: Any = nn.Module()
        self.encoder.layer = nn.ModuleList(Block(dim, heads) for _ in range(blocks))
        self.layernorm = nn.LayerNorm(dim, EPSILON)


class Embeddings(nn.Module):
    """Pixels to tokens."""

    def __init__(self, dim: int, patch: int, patches: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + patches, dim))
        self.patch_embeddings: Any = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(3, dim, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens [B, 1 + patches, dim] of normalised pixels [B, 3, H, W]."""
        tokens = self.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.position_embeddings


class Block(nn.Module):
    """The parameters of a block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, EPSILON), nn.LayerNorm(dim, EPSILON)
        self.attention, self.mlp = Attention(dim, heads), FeedForward(dim)
        self.layer_scale1, self.layer_scale2 = LayerScale(dim), LayerScale(dim)


class Attention(nn.Module):
    """Its four linear maps."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads = heads
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.o_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)


class FeedForward(nn.Module):
    """Its two linear maps, with GELU between them."""

    activation_fn = staticmethod(F.gelu)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)


class LayerScale(nn.Module):
    """A learned scale of each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale [..., dim]."""
        return x * self.lambda1


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings [1, n * n, dim] for another grid of patches, [1, rows * cols, dim]; bicubic, as in DINOv2."""
    side = round(positions.shape[1] ** 0.5)
    square = positions.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)
