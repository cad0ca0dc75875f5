"""Precision of prompted retrieval as the PHS paper defines it (A1-A8), and its bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 1000


def precision(relevance: np.ndarray) -> np.ndarray:
    """P~@k (A2) of bool [n, k]: the share of correct results among the first k, [n]."""
    return relevance.mean(1)


def average_precision(relevance: np.ndarray) -> np.ndarray:
    """AP~@k (A5, A6) of bool [n, k]: P~@k' averaged over the correct ranks k', 0 where none is correct, [n].

    The normaliser is the number of correct results retrieved, not min(k, R).
    """
    hits = np.cumsum(relevance, 1)
    at_hits = (hits / np.arange(1, relevance.shape[1] + 1) * relevance).sum(1)
    return at_hits / np.maximum(hits[:, -1], 1)


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % bootstrap interval over query images.

    Attributes:
        value: The mean.
        low: Lower end of the interval.
        high: Upper end.
        draws: The means of the bootstrap draws, float [DRAWS], for paired differences.
    """

    value: float
    low: float
    high: float
    draws: np.ndarray

    def minus(self, other: Mean) -> Mean:
        """The paired difference: both means must come from the same queries and seed."""
        return mean_of(self.value - other.value, self.draws - other.draws)


def category_mean(values: np.ndarray, images: np.ndarray, categories: np.ndarray, *, seed: int = 0) -> Mean:
    """MP@k or MAP@k (A3, A4, A7, A8) from one value per prompt.

    Prompts of one category in one image are averaged first, then images, then categories with equal weight.

    Args:
        values: Float [n], one per prompt.
        images: Int [n], the query image of each prompt.
        categories: Int [n], the category of the prompted object.
        seed: Of the bootstrap, which draws query images with replacement.
    """
    _, image = np.unique(images, return_inverse=True)
    _, category = np.unique(categories, return_inverse=True)
    shape = (int(image.max()) + 1, int(category.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (image, category), values)
    np.add.at(counts, (image, category), 1)
    present = counts > 0
    means = np.divide(sums, counts, out=np.zeros(shape), where=present)

    draws = np.random.default_rng(seed).multinomial(shape[0], np.full(shape[0], 1 / shape[0]), DRAWS).astype(float)
    weight = draws @ present
    drawn = weight > 0  # a category none of whose images was drawn is left out of that draw's mean
    per_category = np.divide(draws @ means, weight, out=np.zeros_like(weight), where=drawn)
    value = float((means.sum(0) / present.sum(0)).mean())
    return mean_of(value, per_category.sum(1) / drawn.sum(1))


def image_mean(values: np.ndarray, images: np.ndarray, *, seed: int = 0) -> Mean:
    """The mean over images of one value per query [n]; the queries of one image [n] are averaged first."""
    return category_mean(values, images, np.zeros(len(values), int), seed=seed)


def mean_of(value: float, draws: np.ndarray) -> Mean:
    """A value with the interval of its bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Mean(value, float(low), float(high), draws)
