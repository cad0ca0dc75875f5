"""Writes the sample gallery: composed scenes, indexed with `mini`, with boxes, masks and captions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tqdm import tqdm

from foir import masks
from foir.index import Object
from foir.playroom import Scene, compose
from index_build.pipeline import Built, Plan, build
from index_build.sources.folder import Note

SCENES = 600
SOURCE = "composed by foir from Microsoft Fluent 3D emoji"
LICENCE = "MIT"
THUMB_SIDE = 448  # a gallery without files of its own: its thumbnails are its pictures


def make(out: Path, scenes: int = SCENES, encoder: str = "mini") -> Built:
    """Compose the gallery's scenes and index them into `out`; see `foir.playroom.compose`."""
    notes: dict[str, Note] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in tqdm(range(scenes), unit="scene", desc="compose"):
            scene = compose("gallery", number)
            name = f"playroom-{number:03}.png"
            scene.image.save(Path(folder) / name, compress_level=1)
            notes[name] = note(scene)
        return build(Plan(Path(folder), out, encoder, heads=True, notes=notes, thumb_side=THUMB_SIDE, portable=True))


def note(scene: Scene) -> Note:
    """A scene's annotations as an index keeps them."""
    objects = tuple(
        Object(
            item=-1,
            box=thing.box,
            mask=masks.encode(thing.mask),
            category=thing.sprite.category,
            instance=thing.sprite.code,
            name=thing.sprite.name,
            source="composed",
        )
        for thing in scene.objects
    )
    return Note(scene.caption, SOURCE, LICENCE, objects)
