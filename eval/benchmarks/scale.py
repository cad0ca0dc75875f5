"""The cost of 10^5, 10^7 and 10^9 images with each encoder: bytes counted, seconds from rates of this run."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from foir import encoders
from foir.app.collections import SAMPLE
from foir.encoders.base import Encoder, Features
from foir.index import Index
from foir.playroom import compose

from .cost import FLOAT32, REACHED, decode_ms, operations
from .timing import timed

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
        encode = partial(_encode, encoder, pixels)
        count = operations(encode) / len(pixels)
        features, seconds = timed(encode)
        rate = len(pixels) / seconds
        vector, cache = 2 * features.vectors[0].numel(), 2 * (features.z[0].numel() + features.residual[0].numel())
        cells = [
            f"{_bytes(vector * size)}, {_bytes((vector + cache) * size)}, {_bytes(thumbs * size)}; "
            f"{size * count / (REACHED * FLOAT32) / 3600:.2g}"
            for size in SIZES
        ]
        lines.append(f"| {name} | {count / 1e9:.1f} | {rate:.2g} | {vector}, {cache} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _encode(encoder: Encoder, pixels: Tensor) -> Features:
    return encoder.finish(encoder.prefix(pixels))


def _bytes(count: float) -> str:
    for unit in ("MB", "GB", "TB"):
        count /= 1e6 if unit == "MB" else 1e3
        if count < 1000:
            break
    return f"{count:.3g} {unit}"
