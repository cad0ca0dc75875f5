"""The cost of a new prompt on the same image as a share of a full encode: ratios measured in one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count

import numpy as np
from PIL import Image

from foir import encoders
from foir.encoders.base import Encoder
from foir.methods import intervene
from foir.patches import rasterise
from foir.prompts import Prompt

from ..report.results import markdown_table
from .timing import median_seconds

METHODS = ("phs", "attention_mask", "foveal", "foveal|phs", "mask", "crop")
ROUNDS = 9


def main() -> str:
    """Measure `mini` and a random-weight dinov2-large-reg; returns a Markdown table."""
    rows = []
    for name, pretrained in (("mini", True), ("dinov2-large-reg", False)):
        times = measure(encoders.load(name, pretrained=pretrained))
        label = name if pretrained else f"{name} (random weights)"
        full = times["full encode"]
        rows += [(label, step, f"{ms:.2f}", f"1/{full / ms:.1f}") for step, ms in times.items()]
    return "\n".join(markdown_table(("encoder", "step", "median ms", "share of a full encode"), rows))


def measure(encoder: Encoder, rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of a full encode and of a new prompt with each method, from the prompt to the vector."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
    prefix = encoder.prefix(encoder.pixels([image]))
    shifts = {method: count() for method in METHODS}

    def reprompt(method: str) -> object:
        shift = next(shifts[method])  # a new prompt in each round
        prompt = Prompt.box(40 + shift, 60, 200 + shift, 300).fit(image.size)
        mask = rasterise(prompt, image.size, encoder.grid)
        return encoder.features(image, [intervene(method, prompt, mask)], prefix)

    steps: dict[str, Callable[[], object]] = {
        "full encode": lambda: encoder.finish(encoder.prefix(encoder.pixels([image]))),
        **{method: partial(reprompt, method) for method in METHODS},
    }
    return {step: 1e3 * seconds for step, seconds in median_seconds(steps, rounds, warm_up=True).items()}
