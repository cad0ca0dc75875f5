"""Wall times of calls, and the table in which benchmarks report them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

_Result = TypeVar("_Result")


def timed(call: Callable[[], _Result]) -> tuple[_Result, float]:
    """The result of a call, and the seconds it took."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def median_seconds(
    steps: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: bool = False
) -> dict[str, float]:
    """Median seconds of each step.

    The steps alternate, so that a drift of the machine's speed affects all of them.

    Args:
        steps: Calls by name.
        rounds: How often each is timed.
        warm_up: Run all steps once before the first round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + warm_up):
        for name, step in steps.items():
            _, spent = timed(step)
            if number or not warm_up:
                seconds[name].append(spent)
    return {name: float(np.median(values)) for name, values in seconds.items()}
