"""The benchmark of costs."""

from eval.benchmarks import cost


def test_the_cost_bench_counts_what_each_method_runs(toy):
    picture, masked, made, rate = cost.counted(toy, ["mask"])
    assert masked == picture > 0 and rate > 0 and made.z.shape[0] == 1
    _, plain, _, _ = cost.counted(toy, ["cbir"])
    _, both, _, _ = cost.counted(toy, ["mask", "phs"])
    assert plain < picture / 4
    assert picture < both < 1.25 * picture
