"""What a new prompt on the same picture costs, as a share of the full encode: ratios measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from foir import encoders
from foir.encoders.base import Encoder
from foir.methods import intervene
from foir.patches import rasterise
from foir.prompts import Prompt

from ..report.results import ESCAPED_PIPE

METHODS = ("phs", "attention_mask", "foveal", "foveal|phs", "mask", "crop")
ROUNDS = 9


def main() -> str:
    """Measure `mini` and a random-weight dinov2-large-reg; returns a Markdown table."""
    lines = ["| encoder | step | median ms | share of a full encode |", "|---|---|---|---|"]
    for name, pretrained in (("mini", True), ("dinov2-large-reg", False)):
        encoder = encoders.load(name, pretrained=pretrained)
        label = name if pretrained else f"{name} (random weights)"
        times = measure(encoder)
        full = times["full encode"]
        for step, ms in times.items():
            lines.append(f"| {label} | {step.replace('|', ESCAPED_PIPE)} | {ms:.2f} | 1/{full / ms:.1f} |")
    return "\n".join(lines)


def measure(encoder: Encoder, rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of a full encode and of each method's new prompt, everything from prompt to vector counted.

    The steps take turns, so that a drift of the machine's speed meets all of them.
    """
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    prefix = encoder.prefix(encoder.pixels([image]))

    def reprompt(method: str) -> Callable[[int], object]:
        def once(i: int) -> object:
            prompt = Prompt.box(40 + i, 60, 200 + i, 300).fit(image.size)
            mask = rasterise(prompt, image.size, encoder.grid)
            return encoder.features(image, [intervene(method, prompt, mask)], prefix)

        return once

    steps: dict[str, Callable[[int], object]] = {
        "full encode": lambda i: encoder.finish(encoder.prefix(encoder.pixels([image])))
    }
    steps |= {method: reprompt(method) for method in METHODS}
    times: dict[str, list[float]] = {step: [] for step in steps}
    for i in range(rounds + 1):
        for step, once in steps.items():
            started = time.perf_counter()
            once(i)
            if i:  # the first round warms up
                times[step].append(1e3 * (time.perf_counter() - started))
    return {step: statistics.median(values) for step, values in times.items()}
