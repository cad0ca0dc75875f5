"""Ranks and recall between texts and pictures, and recall by the size of a picture's largest object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.datasets import Boxes
from eval.metrics.retrieval import DRAWS, Mean, mean_of

BINS = 10  # of the share of the picture that its largest object's box covers


def text_ranks(scores: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """How many pictures come before each text's own, [texts], from scores [texts, pictures]; ties go to the first."""
    own = scores[np.arange(len(scores)), owner][:, None]
    earlier = np.arange(scores.shape[1])[None] < owner[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)


def image_ranks(scores: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """How many texts come before the best of each picture's own, [pictures], from scores [texts, pictures]."""
    ranks = np.empty(scores.shape[1], int)
    for picture in range(scores.shape[1]):
        order = np.argsort(-scores[:, picture], kind="stable")
        ranks[picture] = int(np.argmax(owner[order] == picture))
    return ranks


def max_similarity(words: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Of texts [t, dim] and pictures [n, q, dim] the largest dot product of each pair, [t, n]."""
    return np.stack([(words @ picture.T).max(1) for picture in pictures], 1)


def size_bins(boxes: Sequence[Boxes], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """In which tenth the share of each picture lies that its largest box covers, 0 to 9; a picture without any in 0."""
    shares = [
        max(((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in some), default=0) / (width * height)
        for some, (width, height) in zip(boxes, sizes, strict=True)
    ]
    return np.minimum((np.array(shares) * BINS).astype(int), BINS - 1)  # the last holds 1 too


def harmonic_mean(hits: np.ndarray, images: np.ndarray, bins: np.ndarray, *, seed: int = 0) -> Mean:
    """mR@k: the harmonic mean of the recalls of all bins that hold a picture; 0 where one of them is 0.

    Args:
        hits: Whether each item was found, [items]; items of one picture are averaged first.
        images: Picture of each item.
        bins: Bin of each picture.
        seed: Of the bootstrap, which draws pictures with replacement; a bin that a draw misses is left out of it.
    """
    asked = np.unique(images)
    found = np.bincount(images, hits, len(bins))[asked] / np.bincount(images, minlength=len(bins))[asked]
    inside = (bins[asked][None] == np.unique(bins[asked])[:, None]).astype(float)
    count = len(asked)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)

    def mean(weights: np.ndarray) -> np.ndarray:
        there = weights @ inside.T
        recall = np.divide(weights @ (inside * found).T, there, out=np.zeros_like(there), where=there > 0)
        with np.errstate(divide="ignore"):
            inverse = np.where(there > 0, 1 / recall, 0).sum(-1)
        return (there > 0).sum(-1) / inverse

    return mean_of(float(mean(np.ones((1, count)))[0]), mean(draws))
