"""flickr8k: the official test list, its captions, and everything that is not on it to learn from."""

from __future__ import annotations

import numpy as np

from eval.datasets import Captioned, Load, captioned, file, needed
from foir import hub
from foir.mini.training.data import Photos


@captioned("flickr8k")
def read() -> Captioned:
    """The 1,000 test photos that are present, with five captions each."""
    photos = Photos.read(needed(hub.data_folder() / "flickr8k", "Flickr8k"))

    def some(rows: np.ndarray) -> tuple[tuple[Load, ...], tuple[tuple[str, ...], ...]]:
        return (
            tuple(file(photos.folder / "images" / photos.files[row]) for row in rows),
            tuple(photos.captions[row] for row in rows),
        )

    def training() -> tuple[tuple[Load, ...], tuple[tuple[str, ...], ...]]:
        return some(np.setdiff1d(np.arange(len(photos.files)), photos.rows["test"]))

    return Captioned("flickr8k", *some(photos.rows["test"]), training)
