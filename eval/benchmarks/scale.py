"""What 10^5, 10^7 and 10^9 pictures take with each encoder: bytes counted, seconds from rates measured in this run."""

from __future__ import annotations

import time

import numpy as np

from foir import encoders
from foir.app.collections import SAMPLE
from foir.index import Index
from foir.playroom import compose

from .cost import FLOAT32, REACHED, decode_ms, operations

ENCODERS = ("mini", "dinov2-small-reg", "dinov2-base-reg", "dinov2-large-reg", "clip-base", "clip-large")
SIZES = (10**5, 10**7, 10**9)


def main() -> str:
    """Measure; returns Markdown tables."""
    sample = Index.open(SAMPLE)
    thumbs = float(np.mean([sample.thumb(item).stat().st_size for item in sample.sample(60)]))
    decode = decode_ms()
    picture = compose("held-out", 0).image
    lines = [
        f"A thumbnail takes {thumbs / 1e3:.0f} kB (60 of the sample), reading a photo {decode:.1f} ms of a core.",
        "",
        "| encoder | GFLOP a picture | pictures a second here | vector, head cache: bytes | "
        + " | ".join(f"{size:.0e} pictures: vectors, with head cache, thumbnails; H200 hours" for size in SIZES)
        + " |",
        "|---|---|---|---|" + "---|" * len(SIZES),
    ]
    for name in ENCODERS:
        encoder = encoders.load(name, device="cpu", pretrained=name == "mini")
        pixels = encoder.pixels([picture] * (8 if name == "mini" else 1))
        made = encoder.finish(encoder.prefix(pixels))
        count = operations(lambda: encoder.finish(encoder.prefix(pixels))) / len(pixels)  # noqa: B023 - called at once
        started = time.perf_counter()
        encoder.finish(encoder.prefix(pixels))
        rate = len(pixels) / (time.perf_counter() - started)
        vector, cache = 2 * made.vectors[0].numel(), 2 * (made.z[0].numel() + made.residual[0].numel())
        cells = [
            f"{_bytes(vector * size)}, {_bytes((vector + cache) * size)}, {_bytes(thumbs * size)}; "
            f"{size * count / (REACHED * FLOAT32) / 3600:.2g}"
            for size in SIZES
        ]
        lines.append(f"| {name} | {count / 1e9:.1f} | {rate:.2g} | {vector}, {cache} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _bytes(count: float) -> str:
    for unit in ("MB", "GB", "TB"):
        count /= 1e6 if unit == "MB" else 1e3
        if count < 1000:
            break
    return f"{count:.3g} {unit}"
