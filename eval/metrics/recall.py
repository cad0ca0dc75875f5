"""Ranks and recall between texts and images, and recall by the size of an image's largest object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..datasets.base import Boxes
from .retrieval import DRAWS, Mean, mean_of

BINS = 10  # of the share of the image that its largest box covers


def text_ranks(scores: np.ndarray, text_images: np.ndarray) -> np.ndarray:
    """Rank of each text's image, [texts], from scores [texts, images]; the first image wins a tie."""
    correct = scores[np.arange(len(scores)), text_images][:, None]
    earlier = np.arange(scores.shape[1])[None] < text_images[:, None]
    return ((scores > correct) | ((scores == correct) & earlier)).sum(1)


def image_ranks(scores: np.ndarray, text_images: np.ndarray) -> np.ndarray:
    """Rank of the best of each image's texts, [images], from scores [texts, images]."""
    ranks = np.empty(scores.shape[1], int)
    for image in range(scores.shape[1]):
        order = np.argsort(-scores[:, image], kind="stable")
        ranks[image] = int(np.argmax(text_images[order] == image))
    return ranks


def max_similarity(texts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The largest dot product of each pair of a text [t, dim] and an image [n, q, dim], [t, n]."""
    return np.stack([(texts @ image.T).max(1) for image in images], 1)


def size_bins(boxes: Sequence[Boxes], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bin of each image, 0 to 9, by the share that its largest box covers; 0 without boxes."""
    shares = [
        max(((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in image_boxes), default=0) / (width * height)
        for image_boxes, (width, height) in zip(boxes, sizes, strict=True)
    ]
    return np.minimum((np.array(shares) * BINS).astype(int), BINS - 1)  # a share of 1 belongs to the last bin


def harmonic_mean(hits: np.ndarray, images: np.ndarray, bins: np.ndarray, *, seed: int = 0) -> Mean:
    """mR@k: the harmonic mean of the recalls of all bins that hold an image; 0 where one of them is 0.

    Args:
        hits: Whether each item was found, bool [items]; items of one image are averaged first.
        images: Image of each item, int [items].
        bins: Bin of each image, int [images].
        seed: Of the bootstrap, which draws images with replacement; a bin that a draw misses is left out of it.
    """
    used = np.unique(images)
    recalls = np.bincount(images, hits, len(bins))[used] / np.bincount(images, minlength=len(bins))[used]
    inside = (bins[used][None] == np.unique(bins[used])[:, None]).astype(float)
    count = len(used)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)

    def mean(weights: np.ndarray) -> np.ndarray:
        counts = weights @ inside.T
        recall = np.divide(weights @ (inside * recalls).T, counts, out=np.zeros_like(counts), where=counts > 0)
        with np.errstate(divide="ignore"):
            inverse = np.where(counts > 0, 1 / recall, 0).sum(-1)
        return (counts > 0).sum(-1) / inverse

    return mean_of(float(mean(np.ones((1, count)))[0]), mean(draws))
