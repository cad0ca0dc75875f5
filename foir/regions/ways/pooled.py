"""Pooled: the mean patch token of a region behind the last block and norm.

It stays as it is where it has as many numbers as the encoder's feature, so that `blended` adds what is unlike its other
part; a projection that was trained for the CLS token would make both alike, and finds less on photos (docs/results.md).
"""

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
    projected = encoder.project(means.to(block.tokens.dtype))
    return F.normalize((means if projected.shape == means.shape else projected).float(), dim=-1)
