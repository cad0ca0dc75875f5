"""Query-DB on a CPU: recall of the two-stage scan against the exact scan, and the cost of each, in one run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import foir
from foir import encoders
from foir.encoders.base import Encoder
from foir.index import Index, Space
from foir.methods import intervene
from foir.patches import rasterise
from foir.playroom import compose
from foir.prompts import Prompt
from foir.ranking import head_cache
from foir.ranking.shortlist import SIZE, Shortlist

from ..report.results import markdown_table
from .timing import timed

ROWS = 118_287  # as many as COCO's train2017
QUERIES, K, H_ON = 24, 100, 5
JITTER = 0.1  # of each channel's deviation
PLAYROOM = Path(foir.__file__).parent / "assets" / "playroom"


def main() -> str:
    """Measure `mini`; returns a Markdown table."""
    encoder = encoders.load("mini", device="cpu")
    index = Index.open(PLAYROOM)
    space = repeated(index.space("image"), ROWS)
    recall, times = measure(encoder, space, QUERIES)
    scan = times["exact scan"]
    rows = [(step, f"{seconds:.3f}", f"1/{scan / seconds:.1f}") for step, seconds in times.items()]
    lines = [
        f"{ROWS} rows: the {len(index)} of the sample gallery repeated, with noise of {JITTER} deviations a channel; "
        f"{QUERIES} boxes on held-out scenes, {H_ON} heads, shortlist {SIZE}.",
        "",
        *markdown_table(("step", "seconds a query", "share of the exact scan"), rows),
        "",
        f"recall@{K} of the two stages against the exact scan: {recall:.4f}",
    ]
    return "\n".join(lines)


def repeated(space: Space, rows: int, seed: int = 0) -> Space:
    """A space's head cache repeated to `rows` rows, each copy with its own noise; it has no plain vectors."""
    rng = np.random.default_rng(seed)
    z, residual = (
        np.concatenate([np.asarray(part, np.float32) for part in parts]) for parts in (space.z, space.residual)
    )
    deviation_z, deviation_r = z.std(0), residual.std(0)
    noisy_z, noisy_r = [], []
    for start in range(0, rows, len(z)):
        count = min(len(z), rows - start)
        noisy_z.append(z[:count] + JITTER * deviation_z * rng.standard_normal((count, *z.shape[1:]), np.float32))
        noisy_r.append(
            residual[:count] + JITTER * deviation_r * rng.standard_normal((count, residual.shape[1]), np.float32)
        )
    empty = tuple(np.empty((len(part), 0), np.float32) for part in noisy_z)
    return Space(space.encoder, space.revision, space.reference_feature, empty, tuple(noisy_z), tuple(noisy_r))


def measure(encoder: Encoder, space: Space, queries: int) -> tuple[float, dict[str, float]]:
    """Mean recall of the two stages, and mean seconds a query of each step."""
    shortlist, prepared = timed(lambda: Shortlist(encoder, space))
    times = {"exact scan": 0.0, "two stages": 0.0}
    recalls = []
    for number in range(queries):
        scene = compose("held-out", number)
        prompt = Prompt.box(*scene.objects[0].box)
        mask = rasterise(prompt, scene.image.size, encoder.grid)
        intervention = intervene("phs", prompt, mask, {"h_on": min(H_ON, encoder.heads)})
        features = encoder.features(scene.image, [intervention])
        gate, vector = features.gates[0], features.vectors.cpu().numpy()
        if gate is None:
            continue
        exact, seconds = timed(partial(head_cache.search, encoder, space, [gate], vector, K))
        times["exact scan"] += seconds
        staged, seconds = timed(partial(shortlist.search, gate, vector[0], K))
        times["two stages"] += seconds
        recalls.append(np.isin(exact.rows[0], staged.rows[0]).mean())
    means = {step: seconds / queries for step, seconds in times.items()}
    return float(np.mean(recalls)), {**means, "preparing the two stages, once": prepared}
