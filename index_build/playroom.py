"""Builds the sample gallery: composed scenes, indexed with `mini`, with boxes, masks and captions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tqdm import tqdm

from foir import masks
from foir.index import Object
from foir.playroom import Scene, compose

from .pipeline import BuildResult, Plan, build
from .sources import Metadata

SCENES = 600
SOURCE = "composed by foir from Microsoft Fluent 3D emoji"
LICENCE = "MIT"
THUMB_SIDE = 448  # the gallery has no image files of its own: its thumbnails are its images


def build_gallery(out: Path, scenes: int = SCENES, encoder: str = "mini") -> BuildResult:
    """Compose the scenes of the gallery and index them into `out`; see `foir.playroom.compose`."""
    metadata: dict[str, Metadata] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in tqdm(range(scenes), unit="scene", desc="compose"):
            scene = compose("gallery", number)
            name = f"playroom-{number:03}.png"
            scene.image.save(folder / name, compress_level=1)
            metadata[name] = scene_metadata(scene)
        plan = Plan(
            folder, out, encoder, heads=True, dtype="float32", metadata=metadata, thumb_side=THUMB_SIDE, portable=True
        )  # in one dtype, so that the sample is the same wherever it is made
        return build(plan)


def scene_metadata(scene: Scene) -> Metadata:
    """The annotations of a scene as an index keeps them."""
    objects = []
    for placed in scene.objects:
        mask, sprite = masks.encode(placed.mask), placed.sprite
        objects.append(Object(-1, placed.box, mask, sprite.category, sprite.code, sprite.name, "composed"))
    return Metadata(scene.caption, SOURCE, LICENCE, tuple(objects))
