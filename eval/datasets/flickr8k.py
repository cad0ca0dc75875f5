"""flickr8k: the official test list, its captions, and everything that is not on it to learn from."""

from __future__ import annotations

import numpy as np

from eval.datasets import CaptionedDataset, ImageLoader, captioned, image_file, require
from foir import hub
from foir.mini.training.data import Photos


@captioned("flickr8k")
def read() -> CaptionedDataset:
    """The 1,000 test photos that are present, with five captions each."""
    photos = Photos.read(require(hub.data_folder() / "flickr8k", "Flickr8k"))

    def some(rows: np.ndarray) -> tuple[tuple[ImageLoader, ...], tuple[tuple[str, ...], ...]]:
        return (
            tuple(image_file(photos.folder / "images" / photos.files[row]) for row in rows),
            tuple(photos.captions[row] for row in rows),
        )

    def training() -> tuple[tuple[ImageLoader, ...], tuple[tuple[str, ...], ...]]:
        return some(np.setdiff1d(np.arange(len(photos.files)), photos.rows["test"]))

    return CaptionedDataset("flickr8k", *some(photos.rows["test"]), training)
