"""A data set's gallery as an encoder sees it: features and head cache, made once and shared by every row."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.datasets import Dataset
from eval.experiments.results_cache import ResultsCache
from foir.encoders.base import Encoder, Features
from foir.index import Space

BATCH = 16
SHARD = 1024  # pictures that a killed run can lose


def facts(encoder: Encoder, dataset: Dataset) -> list[Any]:
    """What all numbers on a data set depend on."""
    return [dataset.name, dataset.digest, *_eyes(encoder)]


def gallery(encoder: Encoder, dataset: Dataset, store: ResultsCache) -> Space:
    """Features and head cache of the whole gallery, float32, in shards of `SHARD` pictures."""
    known = [dataset.shared_gallery or dataset.name, len(dataset.gallery), *_eyes(encoder)]
    shards = []
    for start in tqdm(range(0, len(dataset.gallery), SHARD), unit="shard", desc="gallery"):
        pictures = dataset.gallery[start : start + SHARD]
        shards.append(store.get([*known, "gallery", start, len(pictures)], partial(_encoded, encoder, pictures)))

    def part(name: str) -> tuple[np.ndarray, ...]:
        return tuple(shard[name] for shard in shards)

    return Space(encoder.name, encoder.revision, np.empty(0), part("vectors"), part("z"), part("residual"))


def _eyes(encoder: Encoder) -> list[str]:
    probe = hashlib.sha256(encoder.reference_feature().tobytes()).hexdigest()
    return [encoder.name, encoder.revision, probe, str(encoder.dtype)]


def _encoded(encoder: Encoder, pictures: tuple) -> dict[str, np.ndarray]:
    parts: list[Features] = []
    for start in range(0, len(pictures), BATCH):
        batch = [load() for load in pictures[start : start + BATCH]]
        parts.append(encoder.finish(encoder.prefix(encoder.pixels(batch))))
    return {
        name: np.concatenate([getattr(made, name).float().cpu().numpy() for made in parts])
        for name in ("vectors", "z", "residual")
    }
