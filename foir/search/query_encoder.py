"""From a query image and its prompt to features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np

from foir import methods
from foir.encoders.base import Encoder, Features
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt
from foir.regions.encoder import RegionEncoder
from foir.search.query import Query
from foir.search.results import QueryImage


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """Features of one query image.

    Attributes:
        features: Of one prompt.
        mask: The region that was searched for.
        is_full_view: The encoder saw the whole image, so its attention can be laid over it.
        notes: What a user should know about how the prompt was read.
        things: Region vectors of each thing that is pointed at, of which the best counts, float32 [n, dim] each.
    """

    features: Features
    mask: PatchMask
    is_full_view: bool
    notes: tuple[str, ...]
    things: tuple[np.ndarray, ...] = ()


def encode_query(encoder: Encoder, query: Query, regions: RegionEncoder | None = None) -> QueryFeatures | None:
    """Encode the image of a query; None for a query of words alone.

    Args:
        encoder: The encoder of the index.
        query: The query.
        regions: Makes the region vectors of the index; None where they do not count.

    Raises:
        BadPrompt: The method refuses an option or the prompt.
        Unavailable: See `foir.segment.load_segmenter`.
    """
    image = query.image
    if image is None:
        return None
    mask = _rasterise(encoder, image, query.prompt, query.patch_rule, query.window)
    prompt = Prompt.box(0, 0, *image.photo.size) if query.prompt is None else query.prompt
    intervention = methods.intervene(query.method_name, prompt, mask, query.options)
    features = encoder.features(image.photo.image, [intervention], image.prefix)
    things: tuple[np.ndarray, ...] = ()
    if regions is not None and query.prompt is not None:
        things = encode_things(encoder, query, query.prompt, regions)
    notes = image.photo.notes + intervention.notes
    return QueryFeatures(features, mask, not intervention.reframes, notes, things)


def encode_things(encoder: Encoder, query: Query, prompt: Prompt, regions: RegionEncoder) -> tuple[np.ndarray, ...]:
    """Region vectors of every marked thing; each mark is one thing.

    A box or a mask means its patches, a stroke those that it touches, a point its window. The outline that a segmenter
    finds under a point does no better than the window (docs/results.md), and takes longer.
    """
    image = query.image
    if image is None:
        raise TypeError("a query with things has an image")
    things = []
    for mark in prompt.marks():
        mask = _rasterise(encoder, image, mark, query.patch_rule, query.window)
        key = regions.recipe, sha256(mask.patches.tobytes() + mask.pixels.tobytes()).digest()
        things.append(image.once(key, partial(regions.encode_query, image.photo.image, image.prefix, mask)))
    return tuple(things)


def patch_mask(encoder: Encoder, image: QueryImage, prompt: Prompt | None, rule: str, window: int) -> PatchMask:
    """The patches and pixels a prompt means on an image; the whole image for None.

    Raises:
        BadPrompt: The prompt does not fit the image.
    """
    photo = image.photo
    fitted = None if prompt is None else prompt.fit(photo.size, orientation=photo.orientation)
    return _rasterise(encoder, image, fitted, rule, window)


def _rasterise(encoder: Encoder, image: QueryImage, fitted: Prompt | None, rule: str, window: int) -> PatchMask:
    """The region of a prompt that is fitted to the image; the whole image for None."""
    size = image.photo.size
    if fitted is None:
        return PatchMask.everything(size, encoder.grid)
    return rasterise(fitted, size, encoder.grid, rule=rule, window=window)
