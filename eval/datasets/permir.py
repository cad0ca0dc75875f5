"""permir: personalised retrieval on frames of the BURST videos; the query is the object of a video's first frame."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foir import hub
from foir.errors import Unavailable
from foir.prompts import bounds
from foir.small_objects.crops import DetectedObject, crop_around

from .base import InstanceDataset, InstanceQuery, Scene, image_file, require
from .checks import NO_MASK, image_files
from .registry import Download, register

FRAMES = 3  # of each video; its object is the first of each frame's masks
# All that a pickled array of masks needs; any other global in the file is refused and never run.
SAFE_GLOBALS = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


VIDEOS = Download(
    ("PerMIRS/*/0.jpg", "PerMIRS/*/masks.npz.npy"),
    "Download BURST from https://github.com/Ali2500/BURST-benchmark and cut PerMIRS out of it with "
    "PerMIRS/permirs_gen_dataset.py of https://github.com/dvirsamuel/PDM into FOIR_DATA/PerMIRS.",
)


@register("permir", InstanceDataset, VIDEOS)
def permir() -> InstanceDataset:
    """All frames are the gallery, the query's own included, as the published counts imply (150 queries, 450 images)."""
    folder = require(hub.data_folder() / "PerMIRS", "PerMiR (PerMIRS/VIDEO/{0,1,2}.jpg, masks.npz.npy)")
    videos = sorted(path for path in folder.iterdir() if path.is_dir())
    if not videos:
        raise Unavailable(f"There is no video in {folder}.")
    files = image_files([video / f"{frame}.jpg" for video in videos for frame in range(FRAMES)])
    digests = {video: _digest(video) for video in videos}
    scenes = tuple(
        Scene(load, partial(_objects, video, frame), {video.name: None}, len(_objects(video, frame)), digests[video])
        for load, (video, frame) in zip(files, product(videos, range(FRAMES)), strict=True)
    )
    queries = tuple(InstanceQuery(partial(_query_image, v), v.name) for v in videos if _query_mask(v).any())
    return InstanceDataset("permir", scenes, queries, {NO_MASK: len(videos) - len(queries)})


def _digest(video: Path) -> str:
    """Digest of the masks of a video."""
    with require(video / "masks.npz.npy", "The masks of a video").open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


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
            array = _Unpickler(stream).load()
        frames = list(np.asarray(array).reshape(shape))
        if len(frames) < FRAMES:
            raise ValueError("too few frames")
        return [{key: np.asarray(mask, bool) for key, mask in frame.items()} for frame in frames]
    except (OSError, ValueError, EOFError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        raise Unavailable(f"The masks {path} cannot be read.") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _objects(video: Path, frame: int) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject(bounds(mask), mask) for mask in _masks(video)[frame].values() if mask.any())


def _query_image(video: Path) -> Image.Image:
    return crop_around(image_file(video / "0.jpg")(), bounds(_query_mask(video)))


def _query_mask(video: Path) -> np.ndarray:
    """The mask of the first frame's first object; empty where there is none."""
    return next(iter(_masks(video)[0].values()), np.zeros((1, 1), bool))
