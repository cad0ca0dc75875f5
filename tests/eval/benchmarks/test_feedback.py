"""The benchmark of relevance feedback."""

from eval.benchmarks import feedback as benchmark
from foir.ranking.feedback import feedback_rules


def test_the_bench_times_every_rule():
    times = benchmark.measure("float16", rows=2000)
    assert {f"feedback, {rule}" for rule in feedback_rules()} < set(times)
    assert all(spent > 0 for spent in times.values())
