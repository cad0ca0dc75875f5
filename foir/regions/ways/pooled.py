"""Pooled: the mean patch token of a region behind the last block and norm, mapped to the feature space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.block import full_precision
from foir.regions.ways import region_way

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder, Prefix


@region_way("pooled", summary="The mean of the region's patches behind the last block.", meets_words=False)
def pooled(encoder: Encoder, prefix: Prefix, masks: Tensor) -> Tensor:
    """Pool the patches of each picture under each mask; see `foir.regions.ways.RegionWay`."""
    block = prefix.block
    hidden = full_precision(encoder.norm(encoder.layers[-1](block.tokens))[:, block.first_patch :])
    shares = full_precision(masks.to(hidden.device, hidden.dtype))
    means = shares / shares.sum(1, keepdim=True) @ hidden  # [B, W, d]
    return F.normalize(encoder.project(means.to(block.tokens.dtype)).float(), dim=-1)
