"""The benchmark of query-db."""

import numpy as np

from eval.benchmarks import query_db
from foir.index import Space


def test_the_query_db_bench_measures_recall(toy):
    rng = np.random.default_rng(0)
    z, residual = rng.normal(size=(60, 6, 8)).astype(np.float16), rng.normal(size=(60, 48)).astype(np.float16)
    space = query_db.repeated(Space("toy", "x", np.empty(0), (), (z,), (residual,)), 130)
    assert sum(map(len, space.z)) == sum(map(len, space.shards)) == 130
    recall, times = query_db.measure(toy, space, 2)
    assert recall == 1 and all(seconds > 0 for seconds in times.values())
