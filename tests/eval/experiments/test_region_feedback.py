"""The simulated user of region search: the residual protocol by hand, and judgements that help."""

import numpy as np
import pytest

from eval.datasets.things import point_at_things
from eval.experiments.query_features import select_queries
from eval.experiments.region_feedback import RegionFeedback, _User
from eval.experiments.region_ranking import DEFAULT, RegionRanking
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import RunContext
from foir.ranking.feedback import move
from foir.search.query import CONTEXT


@pytest.fixture(scope="module")
def ranking(made, toy, tmp_path_factory):
    data = point_at_things(made)
    queries = sorted(select_queries(data, None), key=lambda numbered: numbered[1].image)
    return RegionRanking(data, toy, queries, ResultsCache(tmp_path_factory.mktemp("kept")))


def standard(scores):
    return (scores - scores.mean()) / scores.std()


def test_a_judged_query_is_what_the_product_makes_of_it(ranking):
    user = _User.of(ranking)
    _, kept = user.before(4)
    i = int(kept[0])
    first = np.argsort(-user.scores[i], kind="stable")[:2]
    holds = ranking.data.labels[first, ranking.categories[i]]
    vectors, starts = ranking.regions(DEFAULT)
    pictures = np.split(vectors, starts[1:])
    meant = np.stack([pictures[row][(pictures[row] @ user.asked[i]).argmax()] for row in first])
    moved = move(user.asked[i][None], meant[holds], meant[~holds])[0]
    best = np.array([(picture @ moved).max() for picture in pictures])
    whole = ranking.things["attention_mask|phs"][i].copy()
    for weight, rows in ((0.75, first[holds]), (-0.15, first[~holds])):
        whole += weight * ranking.plain[rows].mean(0) if len(rows) else 0
    scores = (1 - CONTEXT) * standard(best) + CONTEXT * standard(ranking.plain @ (whole / np.linalg.norm(whole)))
    left = np.setdiff1d(np.arange(24), [*np.argsort(-user.scores[i], kind="stable")[:4], ranking.images[i]])
    relevant = ranking.data.labels[left, ranking.categories[i]][np.argsort(-scores[left], kind="stable")]
    total = relevant.sum()
    hits = np.cumsum(relevant[:total]) / np.arange(1, total + 1) * relevant[:total]
    assert user.judge(i, 2, "rocchio", 4) == pytest.approx(hits.sum() / total, abs=0.02)


def test_every_size_is_measured_on_the_same_pictures(made, toy, tmp_path):
    cells = RegionFeedback("made", "", (), (), sizes=(1, 4)).measure(made, toy, RunContext(results=tmp_path))
    values = {(cell.options.get("rule"), cell.options["feedback"], cell.metric): cell.value or 0.0 for cell in cells}
    plain = values[None, 0, "MAP@R"]
    for rule in ("rocchio", "nn_ratio", "blend"):
        for size in (1, 4):
            gain = values[rule, size, "MAP@R minus no feedback"]
            assert values[rule, size, "MAP@R"] - plain == pytest.approx(gain, abs=1e-6)
            assert 0 <= values[rule, size, "queries that lose more than a point"] <= 100
    assert len({cell.n for cell in cells}) == 1
