"""From a query image and its prompt to features."""

from __future__ import annotations

from dataclasses import dataclass

from foir import methods
from foir.encoders.base import Encoder, Features
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt, bounds
from foir.search.query import Query
from foir.search.results import QueryImage
from foir.small_objects.crops import crop_around


@dataclass(frozen=True, eq=False)
class QueryFeatures:
    """Features of one query image.

    Attributes:
        features: Of one prompt.
        mask: The region that was searched for.
        is_full_view: The encoder saw the whole image, so its attention can be laid over it.
        notes: What a user should know about how the prompt was read.
    """

    features: Features
    mask: PatchMask
    is_full_view: bool
    notes: tuple[str, ...]


def encode_query(encoder: Encoder, query: Query) -> QueryFeatures | None:
    """Encode the image of a query; None for a query of words alone.

    Raises:
        BadPrompt: The method refuses an option or the prompt.
        Unavailable: See `foir.segment.load_segmenter`.
    """
    image = query.image
    if image is None:
        return None
    if query.mode == "small":
        return encode_object_crop(encoder, query)
    mask = _rasterise(encoder, image, query.prompt, query.patch_rule, query.window)
    prompt = Prompt.box(0, 0, *image.photo.size) if query.prompt is None else query.prompt
    intervention = methods.intervene(query.method_name, prompt, mask, query.options)
    features = encoder.features(image.photo.image, [intervention], image.prefix)
    return QueryFeatures(features, mask, not intervention.reframes, image.photo.notes + intervention.notes)


def encode_object_crop(encoder: Encoder, query: Query) -> QueryFeatures:
    """Encode the object alone, cropped at the image's own resolution; a point or a stroke means its outline.

    Raises:
        Unavailable: See `foir.segment.load_segmenter`.
    """
    image, prompt = query.image, query.prompt
    if image is None or prompt is None:
        raise TypeError("a query in small mode has an image and a prompt")
    mask = _rasterise(encoder, image, prompt, query.patch_rule, query.window)
    if prompt.points or prompt.strokes:
        outline = Prompt(mask=image.outline(prompt, mask))
        mask = rasterise(outline, image.photo.size, encoder.grid, rule=query.patch_rule)
    crop = crop_around(image.photo.image, bounds(mask.pixels))
    features = encoder.finish(encoder.prefix(encoder.pixels([crop])))
    return QueryFeatures(features, mask, False, image.photo.notes)


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
