"""Blended: the masked feature of a region plus a third of its pooled patches, in one vector.

The masked feature tells one thing from another of its kind, the pooled patches tell kinds apart on photos. Their sum
keeps both in one space, so that it costs no more to store or to search than one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.regions.ways import region_way
from foir.regions.ways.masked import masked
from foir.regions.ways.pooled import pooled

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder, Prefix

POOLED = 0.3  # weight of the pooled patches, chosen on voc12_part_dev and playroom-dev (docs/results.md)


@region_way(
    "blended", summary="Both: what the last block sees of it, and its patches.", meets_words=True, centred="pooled"
)
def blended(encoder: Encoder, prefix: Prefix, masks: Tensor, mean: Tensor | None = None) -> Tensor:
    """The unit sum of both vectors; see `foir.regions.ways.RegionWay`."""
    return F.normalize(masked(encoder, prefix, masks, None) + POOLED * pooled(encoder, prefix, masks, mean), dim=-1)
