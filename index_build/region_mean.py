"""The mean that region vectors are centred by: taken once, from a few of the first images, and kept in the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from foir import decoders
from foir.errors import BadImage

from .encoding import LoadedEncoders
from .notes import read_note, write_note
from .sources import Chunk

if TYPE_CHECKING:
    from PIL import Image

SAMPLE = 16  # images, evenly over the first chunk; with more of them the mean hardly changes
FILE = "region-mean"  # the note's name


def centre(encoders: LoadedEncoders, out: Path, chunks: Sequence[Chunk]) -> LoadedEncoders:
    """Encoders whose recipe has its mean. A resumed build takes over the mean of the killed one.

    Args:
        encoders: Of a new index.
        out: The index.
        chunks: Its images.
    """
    if encoders.regions is None or encoders.regions.recipe.mean is not None:
        return encoders
    record = encoders.records["image"]
    key = [encoders.region_recipe, record.encoder, record.revision]
    mean = read_note(out, FILE, key)
    if mean is None:
        encoder = encoders.encoders["image"]
        images = _sample(chunks[0], encoders.min_side)
        mean = encoders.regions.mean([encoder.prefix(encoder.pixels([image])) for image in images])
        write_note(out, FILE, key, mean)
    recipe = encoders.regions.recipe.model_copy(update={"mean": None if mean is None else tuple(mean)})
    return LoadedEncoders(encoders.encoders, recipe)


def _sample(chunk: Chunk, min_side: int) -> Iterator[Image.Image]:
    for source in islice(chunk.images(), 0, None, max(1, len(chunk) // SAMPLE)):
        try:
            yield decoders.read(source.data, min_side=min_side).image
        except BadImage:
            continue  # it is rejected when its chunk is encoded
