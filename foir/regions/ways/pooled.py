"""Pooled: the mean patch token of a region behind the last block and norm, less the collection's mean of them.

What all patches share says nothing about a thing, and hides what they do not share.

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


@region_way(
    "pooled", summary="The mean of the region's patches behind the last block.", meets_words=False, centred="pooled"
)
def pooled(encoder: Encoder, prefix: Prefix, masks: Tensor, mean: Tensor | None = None) -> Tensor:
    """Pool the patches of each picture under each mask; see `foir.regions.ways.RegionWay`."""
    block = prefix.block
    hidden = encoder.normed(encoder.layers[-1](block.tokens))[:, block.first_patch :]
    shares = full_precision(masks.to(hidden.device, hidden.dtype))
    patches = shares / shares.sum(1, keepdim=True) @ hidden  # [B, W, d]
    projected = encoder.project(patches)
    vectors = F.normalize((patches if projected.shape == patches.shape else projected).float(), dim=-1)
    return vectors if mean is None else F.normalize(vectors - mean.to(vectors), dim=-1)
