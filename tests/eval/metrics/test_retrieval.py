"""MP@k and MAP@k against a literal transcription of A1-A8 and the worked example of the specs."""

import numpy as np
import pytest

from eval.metrics.retrieval import average_precision, category_mean, precision


def literal(queries, k, average):
    """A1-A8 with loops; `queries` maps an image to its (category, relevance) pairs."""

    def one(relevance):
        s = relevance[:k]
        if not average:
            return sum(s) / k
        correct = [j for j in range(1, k + 1) if s[j - 1]]
        return sum(sum(s[:j]) / j for j in correct) / len(correct) if correct else 0.0

    categories = sorted({c for objects in queries.values() for c, _ in objects})
    per_category = []
    for c in categories:
        images = [objects for objects in queries.values() if any(kind == c for kind, _ in objects)]
        total = 0.0
        for objects in images:
            mine = [one(relevance) for kind, relevance in objects if kind == c]
            total += sum(value / len(mine) for value in mine)
        per_category.append(total / len(images))
    return sum(per_category) / len(categories)


def flat(queries):
    rows = [(i, c, r) for i, objects in enumerate(queries.values()) for c, r in objects]
    return np.array([r for _, _, r in rows], bool), np.array([i for i, _, _ in rows]), np.array([c for _, c, _ in rows])


def test_the_worked_example_of_the_specs():
    queries = {"1": [(0, [1, 0, 1]), (0, [0, 0, 0]), (1, [1, 1, 0])], "2": [(0, [1, 1, 1])]}
    relevance, images, categories = flat(queries)
    assert category_mean(precision(relevance), images, categories).value == pytest.approx(0.666667, abs=1e-6)
    assert category_mean(average_precision(relevance), images, categories).value == pytest.approx(0.854167, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_random_queries_equal_the_literal_transcription(seed):
    random = np.random.default_rng(seed)
    queries = {
        str(i): [(int(random.integers(6)), random.integers(0, 2, 10).tolist()) for _ in range(random.integers(1, 6))]
        for i in range(30)
    }
    relevance, images, categories = flat(queries)
    for measure, average in ((precision, False), (average_precision, True)):
        value = category_mean(measure(relevance), images, categories).value
        assert value == pytest.approx(literal(queries, 10, average), abs=1e-12)


def test_nothing_correct_is_zero_and_everything_correct_is_one():
    assert average_precision(np.zeros((1, 5), bool)) == 0
    assert average_precision(np.ones((1, 5), bool)) == 1


def test_interval_holds_the_value_and_a_difference_with_itself_is_zero():
    random = np.random.default_rng(0)
    values, images, categories = random.random(300), random.integers(0, 60, 300), random.integers(0, 8, 300)
    mean = category_mean(values, images, categories)
    assert mean.low < mean.value < mean.high
    zero = mean.minus(mean)
    assert (zero.value, zero.low, zero.high) == (0, 0, 0)
    better = category_mean(values + 0.1, images, categories).minus(mean)
    assert better.low == pytest.approx(0.1)
    assert better.high == pytest.approx(0.1)


def test_bootstrap_is_seeded_and_narrows_with_more_images():
    random = np.random.default_rng(1)
    values, categories = random.random(2000), np.zeros(2000, int)
    few = category_mean(values[:50], np.arange(50), categories[:50])
    many = category_mean(values, np.arange(2000), categories)
    assert few.high - few.low > 3 * (many.high - many.low)
    assert np.array_equal(many.draws, category_mean(values, np.arange(2000), categories).draws)


def test_average_precision_is_scikit_learns_on_the_retrieved_list():
    """Both divide by the positives of the list they see, so on a ranking without ties they must agree."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the text model's package")
    rng = np.random.default_rng(5)
    relevance = rng.random((40, 30)) < rng.random((40, 1))
    relevance = relevance[relevance.any(1)]
    ours = average_precision(relevance)
    falling = -np.arange(relevance.shape[1], dtype=float)
    theirs = [sklearn.average_precision_score(row, falling) for row in relevance]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
