"""The benchmark of new prompts."""

from eval.benchmarks import reprompt


def test_reprompting_is_cheaper_than_encoding(toy):
    times = reprompt.measure(toy, rounds=1)
    assert set(times) == {"full encode", *reprompt.METHODS}
    assert all(ms > 0 for ms in times.values())
