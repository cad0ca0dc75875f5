"""What a query picture says where it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foir import methods
from foir.encoders.base import Encoder, Features
from foir.errors import BadPrompt
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt, bounds
from foir.search.results import QueryImage
from foir.small_objects.crops import crop_around


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """What a query picture says: its features, the patches that were meant, whether all of it was seen, notes."""

    features: Features
    mask: PatchMask
    is_full_view: bool
    notes: tuple[str, ...]


def encode_query(
    encoder: Encoder,
    picture: QueryImage,
    prompt: Prompt | None,
    method: str | None,
    options: Mapping[str, Any] | None,
    rule: str,
    window: int,
) -> QueryFeatures:
    """The picture as a method sees it under a prompt; see `foir.Searcher.search`.

    Raises:
        BadPrompt: Method, options and prompt do not fit together, or the prompt not the picture.
    """
    method = method or ("cbir" if prompt is None else "phs")
    if prompt is None and any(step.pointed for step in methods.chain(method)):
        raise BadPrompt(f"The method {method} needs a point, a box, a stroke or a mask.")
    mask = patch_mask(encoder, picture, prompt, rule, window)
    fitted = Prompt.box(0, 0, *picture.photo.size) if prompt is None else _fit(picture, prompt)
    intervention = methods.intervene(method, fitted, mask, options)
    features = encoder.features(picture.photo.image, [intervention], picture.prefix)
    return QueryFeatures(features, mask, not intervention.reframes, picture.photo.notes + intervention.notes)


def encode_object_crop(encoder: Encoder, picture: QueryImage, prompt: Prompt, rule: str, window: int) -> QueryFeatures:
    """What is pointed at, cut out: its outline where a point or a stroke says no more than where it is.

    Raises:
        BadPrompt: The prompt does not fit the picture.
        Unavailable: See `foir.segment.load_segmenter`.
    """
    mask, fitted = patch_mask(encoder, picture, prompt, rule, window), _fit(picture, prompt)
    if fitted.points or fitted.strokes:
        pixels = picture.outline(fitted, mask)
        mask = rasterise(Prompt(mask=pixels), picture.photo.size, encoder.grid, rule=rule)
    image = crop_around(picture.photo.image, bounds(mask.pixels))
    features = encoder.finish(encoder.prefix(encoder.pixels([image])))
    return QueryFeatures(features, mask, False, picture.photo.notes)


def patch_mask(encoder: Encoder, picture: QueryImage, prompt: Prompt | None, rule: str, window: int) -> PatchMask:
    """The patches and pixels a prompt means on a picture; the whole picture for None.

    Raises:
        BadPrompt: The prompt does not fit the picture.
    """
    if prompt is None:
        return PatchMask.everything(picture.photo.size, encoder.grid)
    return rasterise(_fit(picture, prompt), picture.photo.size, encoder.grid, rule=rule, window=window)


def _fit(picture: QueryImage, prompt: Prompt) -> Prompt:
    return prompt.fit(picture.photo.size, orientation=picture.photo.orientation)
