"""Finer captions of the test photos of Flickr30K and COCO: Flickr30K-FG and MSCOCO-FG (SIGIR 2023).

Files, beside those of the collection (NAME is Flickr30K or MSCOCO):
- NAME_FG_ann.json, or NAME_FG.json as Flickr30K's was first released: {photo: captions} or
  [{"image": photo, "caption": captions}];
- NAME_FG_img_filenames.npy: the benchmark's pool of photos; optional. The pool adds photos that no caption belongs to;
  the Q-Pert paper searches the photos of the split alone, and so does foir.

Photos may be named with folder and extension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foir.errors import Unavailable

from .base import read_json


def fine_captions(folder: Path, stem: str, names: Sequence[str], expected: int) -> dict[str, tuple[str, ...]]:
    """The finer captions of each photo.

    Args:
        folder: Holds the files.
        stem: "Flickr30K_FG" or "MSCOCO_FG".
        names: The photos of the split, without extension.
        expected: Number of photos that must have finer captions.

    Raises:
        Unavailable: A file is missing or damaged, or fewer photos have finer captions.
    """
    path = folder / f"{stem}_ann.json"
    if not path.exists() and (released_first := folder / f"{stem}.json").exists():
        path = released_first
    captions = _by_name(read_json(path, f"The finer captions {stem}_ann.json"))
    pool_file = folder / f"{stem}_img_filenames.npy"
    pool = _read_names(pool_file) if pool_file.exists() else captions.keys()
    found = {name: tuple(captions[name]) for name in names if captions.get(name) and name in pool}
    if len(found) < expected:
        listed = f", and {pool_file.name} those of {len(pool)}" if pool_file.exists() else ""
        raise Unavailable(
            f"Only {len(found)} of the {expected} photos of the paper have finer captions: {path} holds those of "
            f"{len(captions)} photos, of which {len(captions.keys() & set(names))} are among the {len(names)} of the "
            f"split{listed}; put the whole files there."
        )
    return found


def _by_name(data: Any) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    pairs: Iterable[tuple[str, Any]] = (
        data.items() if isinstance(data, Mapping) else ((entry["image"], entry["caption"]) for entry in data)
    )
    for photo, texts in pairs:
        captions.setdefault(_name(photo), []).extend([texts] if isinstance(texts, str) else texts)
    return captions


def _read_names(path: Path) -> set[str]:
    try:
        return {_name(str(photo)) for photo in np.load(path, allow_pickle=False).reshape(-1)}
    except (ValueError, EOFError) as error:  # a pickle could run any code
        raise Unavailable(
            f"{path} is no plain array of names: if you trust it, write it again with "
            "numpy.save(path, numpy.load(path, allow_pickle=True).astype(str))."
        ) from error


def _name(photo: str) -> str:
    """The name without folder and extension."""
    return Path(photo).stem
