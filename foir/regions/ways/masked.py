"""Masked: the CLS token of the last block attends to one region only, as under Attention Mask on the query's side.

CLS and registers stay visible. All regions of a batch are finished as one tensor: the exponentials of the CLS logits
are taken once, and each region sums its own share of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from foir.encoders.block import full_precision
from foir.regions.ways import region_way

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder, Prefix


@region_way("masked", summary="The feature of what the last block sees of the region alone.", meets_words=True)
def masked(encoder: Encoder, prefix: Prefix, masks: Tensor, mean: Tensor | None = None) -> Tensor:
    """Finish the CLS token of each picture under each mask; see `foir.regions.ways.RegionWay`."""
    block = prefix.block
    special = masks.new_ones(len(masks), block.first_patch)
    visible = full_precision(torch.cat([special, masks], 1).to(block.tokens.dtype)).to(block.tokens.device)
    weights = (block.logits - block.logits.amax(-1, keepdim=True)).exp()  # [B, h, T]
    shares = weights.unsqueeze(2) * visible  # [B, h, W, T]
    z = shares @ full_precision(block.values) / shares.sum(-1, keepdim=True)
    z = z.to(block.values.dtype).transpose(1, 2)  # [B, W, h, d_k]
    residual = block.residual.unsqueeze(1).expand(-1, len(masks), -1)
    return encoder.tail(z, residual)
