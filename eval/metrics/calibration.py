"""How well likelihoods agree with what happened."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .retrieval import DRAWS, Mean, mean_of

BINS = 10
Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # (likelihoods [n], truth bool [n], weights [n])


def brier_skill(likelihoods: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """1 - Brier score / that of the base rate for everything: 1 is perfect, 0 no better than the base rate."""
    rate = np.average(truth, weights=weights)
    base = np.average((rate - truth) ** 2, weights=weights)
    return float(1 - np.average((likelihoods - truth) ** 2, weights=weights) / base)


def calibration_error(likelihoods: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The mean distance of likelihood and frequency over `BINS` bins of equal mass."""
    order = np.argsort(likelihoods, kind="stable")
    mass = np.cumsum(weights[order]) - weights[order] / 2
    bins = np.minimum((mass / weights.sum() * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights[order] * (likelihoods[order] - truth[order]), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def precision_above(least: float) -> Measure:
    """The share of those with at least this likelihood that are true; 1 where there is none."""

    def measure(likelihoods: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
        chosen = weights * (likelihoods >= least)
        return float((chosen * truth).sum() / chosen.sum()) if chosen.sum() else 1.0

    return measure


def recall_above(least: float) -> Measure:
    """The share of the true ones that have at least this likelihood."""

    def measure(likelihoods: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
        return float((weights * truth * (likelihoods >= least)).sum() / max((weights * truth).sum(), 1e-12))

    return measure


def image_interval(
    measure: Measure, likelihoods: np.ndarray, truth: np.ndarray, images: np.ndarray, *, seed: int = 0
) -> Mean:
    """A measure with the interval of a bootstrap over query images.

    Args:
        measure: Of likelihoods, truth and weights.
        likelihoods: Float [queries, k].
        truth: Bool [queries, k].
        images: Of each query, int [queries].
        seed: Of the bootstrap.
    """
    _, image = np.unique(images, return_inverse=True)
    count = int(image.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    flat, real = likelihoods.ravel(), truth.ravel().astype(float)
    width = likelihoods.shape[1]
    values = [measure(flat, real, np.repeat(draw[image], width).astype(float)) for draw in draws]
    return mean_of(measure(flat, real, np.ones(len(flat))), np.array(values))
