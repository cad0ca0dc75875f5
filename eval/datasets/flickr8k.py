"""flickr8k: the official test list with its captions; all other photos are for training."""

from __future__ import annotations

import numpy as np

from foir import hub
from foir.mini.training.photos import Photos

from .base import CaptionedDataset, CaptionedImages, image_file, require
from .registry import Download, register

PHOTOS = Download(
    (
        "flickr8k/images/*.jpg",
        "flickr8k/captions.txt",
        *(f"flickr8k/Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")),
    ),
    "Ask for Flickr8k at https://forms.illinois.edu/sec/1713398 and put images/, the official lists, and captions.txt "
    "(image,caption) into FOIR_DATA/flickr8k.",
)


@register("flickr8k", CaptionedDataset, PHOTOS, sizes={"images": 1000})
def flickr8k() -> CaptionedDataset:
    """The test photos that are present (1,000 in all), with five captions each."""
    photos = Photos.read(require(hub.data_folder() / "flickr8k", "Flickr8k"))

    def subset(rows: np.ndarray) -> CaptionedImages:
        return (
            tuple(image_file(photos.folder / "images" / photos.files[row]) for row in rows),
            tuple(photos.captions[row] for row in rows),
        )

    def training() -> CaptionedImages:
        return subset(np.setdiff1d(np.arange(len(photos.files)), photos.rows["test"]))

    return CaptionedDataset("flickr8k", *subset(photos.rows["test"]), training)
