"""Regions of a gallery's pictures, and vectors of the things that queries point at. Every picture is encoded once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from foir.encoders.base import Encoder, Prefix
from foir.methods import intervene
from foir.patches import PatchMask
from foir.prompts import Prompt, bounds
from foir.regions.close_ups import CloseUp, take_close_ups
from foir.regions.compress import merge_similar
from foir.regions.encoder import RegionEncoder, complete
from foir.regions.recipe import MAX_LIMIT, RegionRecipe
from foir.regions.views import cut_tiles
from foir.regions.ways import find_way
from foir.regions.ways.blended import POOLED
from foir.small_objects.crops import crop_around
from foir.small_objects.embed import embed_images
from index_build.pipeline import SHARD_SIZE
from index_build.region_mean import SAMPLE

from ..datasets.base import Dataset, ImageLoader, Query
from ..datasets.checks import visible_share
from .gallery import encoder_key
from .query_features import NumberedQueries
from .query_prompts import query_prompts
from .results_cache import ResultsCache

BATCH, CHUNK = 16, 64  # pictures; a killed run loses at most one chunk
METHODS = ("cbir", "mask", "crop", "foveal", "attention_mask", "phs", "attention_mask|phs")  # phs keeps five heads
PARTS = ("masked", "pooled")  # ways, whose sum is "blended"
CROP = "close-up"  # the plain feature of a crop around the thing, by the name that caches know


def blend(parts: Mapping[str, np.ndarray], way: str, mean: np.ndarray, pooled: float = POOLED) -> np.ndarray:
    """Unit vectors of a way, float32 [..., dim], of those of `PARTS`.

    Args:
        parts: Unit vectors by way, float [..., dim]; "pooled" not centred yet.
        way: One of them, or "blended".
        mean: Of the collection's pooled vectors, [dim].
        pooled: Weight of the pooled part in "blended".
    """
    if way in parts and way != "pooled":
        return parts[way].astype(np.float32)
    centred = unit(parts["pooled"].astype(np.float32) - mean)
    return centred if way == "pooled" else unit(parts["masked"].astype(np.float32) + pooled * centred)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32 [..., dim]."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


@dataclass(frozen=True, eq=False)
class GalleryRegions:
    """All regions of a gallery.

    Attributes:
        plain: Unit vectors of whole pictures, float32 [n, dim].
        parts: Unit vectors by way, float16 [m, dim].
        counts: Number of regions of each picture, [n].
        mean: Of the pooled vectors, [dim], as a build takes it.
    """

    plain: np.ndarray
    parts: Mapping[str, np.ndarray]
    counts: np.ndarray
    mean: np.ndarray

    def compressed(self, way: str, pooled: float, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `limit` vectors a picture, float32 [m, dim], and where each picture's begin, int [n]."""
        vectors = np.split(blend(self.parts, way, self.mean, pooled), np.cumsum(self.counts)[:-1])
        merged = [merge_similar(own, limit)[0] for own in vectors]
        stored = np.concatenate(merged).astype(np.float16).astype(np.float32)  # as an index stores them
        return stored, np.cumsum([0, *(len(own) for own in merged[:-1])])


def gallery_regions(
    encoder: Encoder, data: Dataset, views: str, results: ResultsCache, mean: np.ndarray | None = None
) -> GalleryRegions:
    """The regions of a gallery, not compressed: both `PARTS` of the whole pictures, or "blended" of more views.

    Args:
        encoder: The encoder.
        data: The data set.
        views: Of its pictures.
        results: Those of earlier runs.
        mean: Of the whole pictures' pooled vectors, for other views.
    """
    ways = PARTS if views == "whole" else ("blended",)
    facts = {"views": views, "limit": MAX_LIMIT, "mean": None if mean is None else tuple(mean.tolist())}
    recipes = [complete(RegionRecipe.model_validate({"way": way, **facts}), encoder) for way in ways]
    makers = {recipe.way: RegionEncoder(encoder, recipe) for recipe in recipes}
    key = [data.shared_gallery or data.name, len(data.gallery), *encoder_key(encoder), *(r.to_json() for r in recipes)]
    chunks = []
    for start in tqdm(range(0, len(data.gallery), CHUNK), unit="chunk", desc="regions"):
        images = data.gallery[start : start + CHUNK]
        chunks.append(results.get([*key, "regions", start], partial(_encode, encoder, makers, images)))
    joined = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in ("plain", *ways, "counts")}
    if mean is None:
        mean = _mean(joined["pooled"], joined["counts"])
    return GalleryRegions(joined["plain"], {way: joined[way] for way in ways}, joined["counts"], mean)


def _mean(pooled: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of the pooled vectors of the pictures that a build samples; see `index_build.region_mean`."""
    sampled = np.zeros(len(counts), bool)
    first = min(len(counts), SHARD_SIZE)
    sampled[: first : max(1, first // SAMPLE)] = True
    return np.asarray(pooled[np.repeat(sampled, counts)].astype(np.float32).mean(0))


def _encode(
    encoder: Encoder, makers: Mapping[str, RegionEncoder], loaders: Sequence[ImageLoader]
) -> dict[str, np.ndarray]:
    recipe = next(iter(makers.values())).recipe
    parts: dict[str, list[np.ndarray]] = {way: [] for way in ("plain", *makers)}
    counts: list[int] = []
    for start in range(0, len(loaders), BATCH):
        images = [load() for load in loaders[start : start + BATCH]]
        prefix = encoder.prefix(encoder.pixels(images))
        parts["plain"].append(encoder.finish(prefix).vectors.float().cpu().numpy())
        tiles = None
        if recipe.views == "tiles":
            tiles = torch.stack([encoder.pixels(cut_tiles(image)) for image in images])
        objects = [(image, ()) for image in images] if recipe.needs_objects else []
        for way, maker in makers.items():
            found = maker.encode(prefix, tiles, objects)
            parts[way] += [picture.vectors.astype(np.float16) for picture in found]
        counts += [len(picture.vectors) for picture in found]
    return {**{name: np.concatenate(vectors) for name, vectors in parts.items()}, "counts": np.array(counts)}


def thing_vectors(
    encoder: Encoder, data: Dataset, queries: NumberedQueries, names: Sequence[str], results: ResultsCache,
    view: CloseUp | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Vectors of the things that queries point at, each kept by its picture and box, which data sets may share.

    Args:
        encoder: The gallery's encoder.
        data: The data set.
        queries: Sorted by image, each with one box that has a part on its image.
        names: Methods, `PARTS` or `CROP`.
        results: Those of earlier runs.
        view: For `PARTS`: of close-ups instead of the pictures.

    Returns:
        By name float32 [n, dim]; "share" [n] of the picture that the box covers; "seconds" [n, names].
    """
    key = [data.shared_gallery or data.name, len(data.query_images), *encoder_key(encoder), "thing", list(names)]
    key += [] if view is None else [view.zoom, view.mirrored]
    found = []
    for image, group in groupby(tqdm(queries, unit="thing", desc="things"), lambda numbered: numbered[1].image):
        picture = cache(partial(_open, encoder, data.query_images[image]))
        for _, query in group:
            compute = partial(_thing, encoder, picture, query, names, view)
            found.append(results.get([*key, image, [float(edge) for edge in query.prompt.boxes[0]]], compute))
    return {name: np.stack([each[name] for each in found]) for name in (*names, "share", "seconds")}


_Picture = Callable[[], tuple[Image.Image, Prefix]]


def _open(encoder: Encoder, load: ImageLoader) -> tuple[Image.Image, Prefix]:
    image = load()
    return image, encoder.prefix(encoder.pixels([image]))


def _thing(
    encoder: Encoder, picture: _Picture, query: Query, names: Sequence[str], view: CloseUp | None
) -> dict[str, np.ndarray]:
    image, prefix = picture()
    vectors, seconds = {}, []
    ((prompt, mask),), _ = query_prompts(query, 0, image.size, encoder.grid)
    share = visible_share(prompt.boxes[0], image.size)
    started = time.perf_counter()
    if view is not None:
        ((image, mask),) = take_close_ups(image, mask, [view])
        prefix = encoder.prefix(encoder.pixels([image]))
    for name in names:
        vectors[name] = _vector(encoder, (image, prefix), prompt, mask, name)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return {**vectors, "share": np.array(share), "seconds": np.array(seconds)}


def _vector(
    encoder: Encoder, opened: tuple[Image.Image, Prefix], prompt: Prompt, mask: PatchMask, name: str
) -> np.ndarray:
    image, prefix = opened
    if name in PARTS:
        with torch.inference_mode():
            patches = torch.from_numpy(mask.patches.reshape(1, -1))
            vectors = find_way(name).vectors(encoder, prefix, patches, None)[0]
    elif name == CROP:
        vectors = embed_images(encoder, [crop_around(image, bounds(mask.pixels))])
    else:
        vectors = encoder.features(image, [intervene(name, prompt, mask)], prefix).vectors
    return vectors[0].float().cpu().numpy()
