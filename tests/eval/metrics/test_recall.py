"""Recall by object size: bins and the harmonic mean."""

import numpy as np
import pytest

from eval.metrics.recall import BINS, harmonic_mean, size_bins

SIZE = (60, 40)


def test_bins_cover_everything_up_to_the_whole_picture():
    boxes = [(), ((0, 0, 6, 4), (0, 0, 30, 4)), ((0, 0, 30, 40),), ((0, 0, 60, 40),)]
    assert size_bins(boxes, [SIZE] * 4).tolist() == [0, 0, 5, BINS - 1]


def test_mean_recall_over_sizes_is_harmonic():
    rng = np.random.default_rng(0)
    bins, images = np.array([0, 0, 3, 3, 9, 9, 9]), np.repeat(np.arange(7), 5)
    hits = rng.random(35) < 0.6
    each = [np.mean([hits[images == i].mean() for i in np.flatnonzero(bins == b)]) for b in (0, 3, 9)]
    mean = harmonic_mean(hits, images, bins)
    assert mean.value == pytest.approx(3 / sum(1 / r for r in each))
    assert mean.low <= mean.value <= mean.high
    hits[np.isin(images, np.flatnonzero(bins == 3))] = False
    assert harmonic_mean(hits, images, bins).value == 0
    some = harmonic_mean(hits[images < 2], images[images < 2], bins)  # only the first bin was asked for
    assert some.value == pytest.approx(hits[images < 2].mean())
