"""permir: personalised retrieval on frames of the BURST videos; the first frame of each video asks for its object."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.datasets import InstanceDataset, Scene, InstanceQuery, image_file, instances, require
from foir import hub, images
from foir.errors import Unavailable
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

FRAMES = 3  # of each video; its object is the first of each frame's masks
# All that a pickled array of masks needs; anything else in the file is refused and never run.
HARMLESS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@instances("permir")
def permir() -> InstanceDataset:
    """All frames are the gallery, as the published counts say (150 queries, 450 pictures): a query's own is in it."""
    folder = require(hub.data_folder() / "PerMIRS", "PerMiR (PerMIRS/VIDEO/{0,1,2}.jpg, masks.npz.npy)")
    scenes, queries = [], []
    for video in sorted(path for path in folder.iterdir() if path.is_dir()):
        for frame in range(FRAMES):
            scenes.append(Scene(image_file(video / f"{frame}.jpg"), partial(_things, video, frame), frozenset([video.name])))
        queries.append(InstanceQuery(partial(_cut_out, video), video.name))
    if not queries:
        raise Unavailable(f"There is no video in {folder}.")
    return InstanceDataset("permir", tuple(scenes), tuple(queries))


@lru_cache(maxsize=8)
def _masks(video: Path) -> list[Mapping[Any, np.ndarray]]:
    """The masks of each frame, bool [H, W], by object."""
    path = video / "masks.npz.npy"
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            if not dtype.hasobject:
                raise ValueError("no objects")
            made = _Unpickler(stream).load()
        frames = list(np.asarray(made).reshape(shape))
        return [{key: np.asarray(mask, bool) for key, mask in frame.items()} for frame in frames]
    except (OSError, ValueError, EOFError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        raise Unavailable(f"The masks {path} cannot be read.") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _things(video: Path, frame: int) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(bounds(mask), mask) for mask in _masks(video)[frame].values() if mask.any())


def _cut_out(video: Path) -> Image.Image:
    mask = next(iter(_masks(video)[0].values()))
    return crop_around(images.read(video / "0.jpg").image, bounds(mask))
