"""folders: a folder of folders, each holding the pictures of one class; every picture asks for its own class."""

from __future__ import annotations

import numpy as np

from eval.datasets import Dataset, Query, dataset, image_file, require
from foir import hub, images
from foir.prompts import Prompt

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataset("folders")
def folders() -> Dataset:
    """FOIR_DATA/folders/CLASS/*.jpg, leave-one-out; classes with one picture only stay in the gallery."""
    folder = require(hub.data_folder() / "folders", "A folder of folders, each with the pictures of one class,")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found = [
        (path, kind)
        for kind, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    labels = np.zeros((len(found), len(classes)), bool)
    labels[np.arange(len(found)), [kind for _, kind in found]] = True
    pictures = tuple(image_file(path) for path, _ in found)
    queries = tuple(
        Query(row, Prompt.box(0, 0, *images.read(path).size), kind)
        for row, (path, kind) in enumerate(found)
        if labels[:, kind].sum() > 1
    )
    return Dataset("folders", pictures, labels, queries, pictures, tuple(classes), leave_one_out=True)
