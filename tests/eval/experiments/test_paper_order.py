"""Spearman's rank correlation of measured means with a paper's values."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from eval.experiments.paper_order import spearman
from eval.metrics.retrieval import mean_of


def means(values, draws):
    return [mean_of(float(value), column) for value, column in zip(values, np.asarray(draws, float).T, strict=True)]


@pytest.mark.parametrize(
    ("values", "reference"),
    [((1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0)), ((4.0, 1.0, 3.0, 3.0), (1.0, 2.0, 2.0, 5.0))],
)
def test_it_is_scipys(values, reference):
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((50, 4)).round(1)
    found = spearman(means(values, draws), np.array(reference))
    assert found.value == pytest.approx(spearmanr(values, reference).statistic)
    np.testing.assert_allclose(found.draws, [spearmanr(row, reference).statistic for row in draws], atol=1e-12)


def test_methods_without_any_order_have_no_correlation():
    found = spearman(means((1.0, 1.0, 1.0), np.ones((5, 3))), np.array([1.0, 2.0, 3.0]))
    assert found.value == 0 and not found.draws.any()
