"""folders: a folder with one folder of images for each class; every image is a query for its own class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PIL import Image

from foir import hub, images
from foir.prompts import Prompt

from .base import Dataset, Query, multi_hot, require
from .registry import Download, register

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


CLASSES = Download(("folders/*/*",), "Put a folder of images for each class into FOIR_DATA/folders.")


@register("folders", Dataset, CLASSES)
def folders() -> Dataset:
    """FOIR_DATA/folders/CLASS/*.jpg, leave-one-out; the image of a class with a single image is no query."""
    folder = require(hub.data_folder() / "folders", "A folder of folders, each with the images of one class,")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [
        (path, category)
        for category, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    labels = multi_hot(([category] for _, category in files), len(classes))
    loaders = tuple(partial(_upright, path) for path, _ in files)
    queries = tuple(
        Query(row, Prompt.box(0, 0, *images.read(path).size), category)
        for row, (path, category) in enumerate(files)
        if labels[:, category].sum() > 1
    )
    return Dataset("folders", loaders, labels, queries, loaders, tuple(classes), leave_one_out=True)


def _upright(path: Path) -> Image.Image:
    return images.read(path).image  # nothing is annotated, so what viewers show is meant
