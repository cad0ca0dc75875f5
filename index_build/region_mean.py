"""The mean that region vectors are centred by: taken once, from a few of the first images, and kept in the recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from foir import decoders
from foir.errors import BadImage
from foir.index import writer

from .encoding import LoadedEncoders
from .shards import PARTIAL
from .sources import Chunk

if TYPE_CHECKING:
    from PIL import Image

SAMPLE = 16  # images, evenly over the first chunk; with more of them the mean hardly changes
FILE = "region-mean"  # of the unfinished shards' folder


def centre(encoders: LoadedEncoders, out: Path, chunks: Sequence[Chunk]) -> LoadedEncoders:
    """Encoders whose recipe has its mean. A resumed build takes over the mean of the killed one.

    Args:
        encoders: Of a new index.
        out: The index.
        chunks: Its images.
    """
    if encoders.regions is None or encoders.regions.recipe.mean is not None:
        return encoders
    record, file = encoders.records["image"], out / PARTIAL / FILE
    key = [encoders.region_recipe, record.encoder, record.revision]
    mean = _kept(file, key)
    if mean is None:
        encoder = encoders.encoders["image"]
        prefixes = [encoder.prefix(encoder.pixels([image])) for image in _sample(chunks[0])]
        mean = encoders.regions.mean(prefixes)
        file.parent.mkdir(parents=True, exist_ok=True)
        writer.atomic_write(file, json.dumps([key, mean]).encode())
    recipe = encoders.regions.recipe.model_copy(update={"mean": None if mean is None else tuple(mean)})
    return LoadedEncoders(encoders.encoders, recipe)


def _kept(file: Path, key: Sequence[str]) -> Sequence[float] | None:
    try:
        known, mean = json.loads(file.read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return mean if known == key else None


def _sample(chunk: Chunk) -> Iterator[Image.Image]:
    for source in islice(chunk.images(), 0, None, max(1, len(chunk) // SAMPLE)):
        try:
            yield decoders.read(source.data).image
        except BadImage:
            continue  # it is rejected when its chunk is encoded
