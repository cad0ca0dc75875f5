"""A million rows: how long an index takes to open, the first time and once its files are known, and to be searched."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np

import foir
from foir import encoders
from foir.index import Index, Item, exact, writer
from foir.index.verified import SETTLED
from foir.playroom import compose

ROWS, SHARD = 1_000_000, 1024
QUERIES, K = 24, 100
JITTER = 0.1  # of each channel's deviation
PLAYROOM = Path(foir.__file__).parent / "assets" / "playroom"


def main() -> str:
    """Measure; returns a Markdown table."""
    sample = Index.open(PLAYROOM)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, sample, ROWS)
        time.sleep(SETTLED + 0.5)  # a file this young is not put on record
        times = {}
        for step in ("opened for the first time, every byte verified", "opened again"):
            started = time.perf_counter()
            index = Index.open(folder)
            times[step] = time.perf_counter() - started
        shards = index.space("image").shards
        recall, times["searched"] = measure(shards)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    lines = [
        f"{len(index)} rows in {len(shards)} shards, {size:.0f} MB: the {len(sample)} of the sample gallery repeated, "
        f"with noise of {JITTER} deviations a channel; {QUERIES} held-out scenes as queries, in the order given.",
        "",
        "| step | seconds |",
        "|---|---|",
        *(f"| {step} | {seconds:.3f} |" for step, seconds in times.items()),
        "",
        f"The path is the {exact.PATH}; recall@{K} against a product in float64: {recall:.4f}",
    ]
    return "\n".join(lines)


def write(folder: Path, sample: Index, rows: int, seed: int = 0) -> None:
    """An index of the sample's vectors, repeated to so many rows, each copy with its own noise; without thumbnails."""
    rng = np.random.default_rng(seed)
    space = sample.space("image")
    vectors = np.concatenate([np.asarray(shard, np.float32) for shard in space.shards])
    noise = JITTER * vectors.std(0)
    shards = []
    for start in range(0, rows, SHARD):
        some = vectors[np.arange(start, min(start + SHARD, rows)) % len(vectors)]
        some = some + noise * rng.standard_normal(some.shape, np.float32)
        shards.append(writer.write_vectors(folder, some / np.linalg.norm(some, axis=1, keepdims=True)))
    items = [
        Item(row, f"folder-{row // 1000:04}/picture-{row:07}.jpg", 640, 480, None, None, None,
             hashlib.sha256(str(row).encode()).hexdigest())
        for row in range(rows)
    ]  # fmt: skip
    files = writer.SpaceFiles(space.encoder, space.revision, tuple(space.probe.tolist()), tuple(shards))
    writer.finish(folder, {"image": files}, items, [], None)


def measure(shards: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """Mean recall of a search against a product in float64, and mean seconds a query."""
    encoder = encoders.load("mini", device="cpu")
    pictures = [compose("held-out", number).image for number in range(QUERIES)]
    made = [encoder.finish(encoder.prefix(encoder.pixels([picture]))) for picture in pictures]
    queries = np.concatenate([features.vectors.cpu().numpy() for features in made])
    exact.search(shards, queries[:1], K)  # the files are in memory now
    started = time.perf_counter()
    found = [exact.search(shards, query[None], K).rows[0] for query in queries]
    seconds = (time.perf_counter() - started) / len(queries)
    scores = np.concatenate([shard.astype(np.float64) @ queries.T.astype(np.float64) for shard in shards]).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)])), seconds
