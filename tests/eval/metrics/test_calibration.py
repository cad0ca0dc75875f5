"""Calibration by hand, and what perfect and useless likelihoods give."""

import numpy as np
import pytest

from eval.metrics.calibration import brier_skill, calibration_error, image_interval, precision_above, recall_above

RNG = np.random.default_rng(0)
LIKELY = RNG.random(20_000)
TRUE = RNG.random(20_000) < LIKELY
ONES = np.ones(len(LIKELY))


def test_calibrated_likelihoods_have_no_error_and_skill_by_their_spread():
    assert calibration_error(LIKELY, TRUE, ONES) < 0.02
    assert brier_skill(LIKELY, TRUE, ONES) == pytest.approx(1 / 3, abs=0.02)  # 1 - E[p (1 - p)] / 0.25
    assert brier_skill(TRUE.astype(float), TRUE, ONES) == 1
    assert brier_skill(np.full(len(TRUE), TRUE.mean()), TRUE, ONES) == pytest.approx(0)
    assert calibration_error(np.full(len(TRUE), 0.9), TRUE, ONES) == pytest.approx(0.9 - TRUE.mean(), abs=1e-6)


def test_bins_have_equal_mass():
    """Twenty values, two in each bin: the gap of each pair counts by its own sign."""
    likelihoods, truth = np.arange(20) / 20, np.arange(20) % 2 == 0
    gaps = [abs(likelihoods[i : i + 2].sum() - 1) for i in range(0, 20, 2)]
    assert calibration_error(likelihoods, truth, np.ones(20)) == pytest.approx(sum(gaps) / 20)


def test_what_is_called_likely():
    likelihoods, truth = np.array([0.9, 0.8, 0.4, 0.1]), np.array([True, False, True, False])
    ones = np.ones(4)
    assert precision_above(0.5)(likelihoods, truth, ones) == 0.5 == recall_above(0.5)(likelihoods, truth, ones)
    assert precision_above(0.95)(likelihoods, truth, ones) == 1 and recall_above(0.95)(likelihoods, truth, ones) == 0
    weights = np.array([3.0, 1, 1, 1])
    assert precision_above(0.5)(likelihoods, truth, weights) == recall_above(0.5)(likelihoods, truth, weights) == 0.75


def test_a_weight_is_a_repetition():
    weights = RNG.integers(0, 3, 200)
    likelihoods, truth = LIKELY[:200], TRUE[:200]
    repeated = np.repeat(likelihoods, weights), np.repeat(truth, weights), np.ones(weights.sum())
    assert brier_skill(likelihoods, truth, weights) == pytest.approx(brier_skill(*repeated))


def test_the_interval_is_over_pictures():
    """Two prompts of one picture say the same: the interval is that of half as many."""
    likelihoods, truth = LIKELY[:600].reshape(100, 6), TRUE[:600].reshape(100, 6)
    single = image_interval(brier_skill, likelihoods, truth, np.arange(100))
    twice = image_interval(brier_skill, likelihoods.repeat(2, 0), truth.repeat(2, 0), np.arange(100).repeat(2))
    assert twice.value == pytest.approx(single.value) and twice.low == pytest.approx(single.low)
    assert single.low < single.value < single.high
