"""The features and head cache of a data set's gallery, computed once and shared by every row of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from foir.encoders.base import Encoder, Features
from foir.index import Space

from ..datasets.base import Dataset, ImageLoader
from .results_cache import ResultsCache

BATCH = 16
SHARD = 1024  # images; a killed run loses at most one shard


def cache_key(encoder: Encoder, dataset: Dataset) -> list[Any]:
    """All that results on a data set depend on."""
    return [dataset.name, dataset.digest, *encoder_key(encoder)]


def encode_gallery(encoder: Encoder, dataset: Dataset, cache: ResultsCache) -> Space:
    """Features and head cache of the whole gallery, float32, in shards of `SHARD` images."""
    key = [dataset.shared_gallery or dataset.name, len(dataset.gallery), *encoder_key(encoder)]
    shards = []
    for start in tqdm(range(0, len(dataset.gallery), SHARD), unit="shard", desc="gallery"):
        images = dataset.gallery[start : start + SHARD]
        shards.append(cache.get([*key, "gallery", start, len(images)], partial(_encode, encoder, images)))
    arrays = {name: tuple(shard[name] for shard in shards) for name in ("vectors", "z", "residual")}
    return Space(encoder.name, encoder.revision, np.empty(0), arrays["vectors"], arrays["z"], arrays["residual"])


def encoder_key(encoder: Encoder) -> list[str]:
    """All that an encoder's features depend on."""
    reference = hashlib.sha256(encoder.reference_feature().tobytes()).hexdigest()
    return [encoder.name, encoder.revision, reference, str(encoder.dtype)]


def _encode(encoder: Encoder, images: Sequence[ImageLoader]) -> dict[str, np.ndarray]:
    batches: list[Features] = []
    for start in range(0, len(images), BATCH):
        batch = [load() for load in images[start : start + BATCH]]
        batches.append(encoder.finish(encoder.prefix(encoder.pixels(batch))))
    return {
        name: np.concatenate([getattr(features, name).float().cpu().numpy() for features in batches])
        for name in ("vectors", "z", "residual")
    }
