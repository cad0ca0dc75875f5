"""What 10^5, 10^7 and 10^9 pictures take with each encoder: bytes counted, seconds from rates measured in this run."""

from __future__ import annotations

import time

import numpy as np

from eval.bench_cost import FLOAT32, REACHED, decode_ms, operations
from foir import encoders
from foir.index import Index, exact
from foir.page.library import SAMPLE
from foir.playroom import compose

ENCODERS = ("mini", "dinov2-small-reg", "dinov2-base-reg", "dinov2-large-reg", "clip-base", "clip-large")
SIZES = (10**5, 10**7, 10**9)
TABLE = 150  # bytes of a picture's row in memory: id, name, size, digest of its thumbnail
SCANNED = 2**21  # rows of the scan that is timed
K = 24


def main() -> str:
    """Measure; returns Markdown tables."""
    sample = Index.open(SAMPLE)
    thumbs = float(np.mean([sample.thumb(item).stat().st_size for item in sample.some(60)]))
    decode = decode_ms()
    picture = compose("held-out", 0).image
    lines = [
        f"A thumbnail takes {thumbs / 1e3:.0f} kB (60 of the sample), a row of the table {TABLE} bytes in memory;",
        f"to read and squeeze a photo takes {decode:.1f} ms of a core.",
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
    seconds, bytes_ = _scan()
    lines += [
        "",
        f"A scan in memory reads {bytes_ / seconds / 1e9:.1f} GB a second here ({SCANNED:,} rows of 384 float16).",
    ]
    return "\n".join(lines)


def _scan() -> tuple[float, int]:
    """Seconds of a query over made-up rows, and their bytes."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((SCANNED // 64, 384), np.float32)
    rows = np.tile((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), (64, 1))
    rows[:, 0] += rng.standard_normal(len(rows)).astype(np.float16) / 50  # else too many are the very same
    query = rng.standard_normal((1, 384), np.float32)
    query /= np.linalg.norm(query)
    exact.search([rows], query, K)
    started = time.perf_counter()
    exact.search([rows], query, K)
    return time.perf_counter() - started, rows.nbytes


def _bytes(count: float) -> str:
    for unit in ("MB", "GB", "TB"):
        count /= 1e6 if unit == "MB" else 1e3
        if count < 1000:
            break
    return f"{count:.3g} {unit}"
