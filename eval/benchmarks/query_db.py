"""Query-DB on a CPU: what the two-stage scan finds of what the exact scan finds, and what each costs, in one run."""

from __future__ import annotations

import time
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
    lines = [
        f"{ROWS} rows: the {len(index)} of the sample gallery repeated, with noise of {JITTER} deviations a channel; "
        f"{QUERIES} boxes on held-out scenes, {H_ON} heads, shortlist {SIZE}.",
        "",
        "| step | seconds a query | share of the exact scan |",
        "|---|---|---|",
        *(f"| {step} | {seconds:.3f} | 1/{scan / seconds:.1f} |" for step, seconds in times.items()),
        "",
        f"recall@{K} of the two stages against the exact scan: {recall:.4f}",
    ]
    return "\n".join(lines)


def repeated(space: Space, rows: int, seed: int = 0) -> Space:
    """A space's head cache repeated to so many rows, each copy with its own noise; it has no plain vectors."""
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
    started = time.perf_counter()
    stage = Shortlist(encoder, space)
    times = {"exact scan": 0.0, "two stages": 0.0}
    prepared = time.perf_counter() - started
    recalls = []
    for number in range(queries):
        scene = compose("held-out", number)
        prompt = Prompt.box(*scene.objects[0].box)
        mask = rasterise(prompt, scene.image.size, encoder.grid)
        made = encoder.features(scene.image, [intervene("phs", prompt, mask, {"h_on": min(H_ON, encoder.heads)})])
        gate, vector = made.gates[0], made.vectors.cpu().numpy()
        if gate is None:
            continue
        started = time.perf_counter()
        exact = head_cache.search(encoder, space, [gate], vector, K).rows[0]
        times["exact scan"] += time.perf_counter() - started
        started = time.perf_counter()
        found = stage.search(gate, vector[0], K).rows[0]
        times["two stages"] += time.perf_counter() - started
        recalls.append(np.isin(exact, found).mean())
    means = {step: seconds / queries for step, seconds in times.items()}
    return float(np.mean(recalls)), {**means, "preparing the two stages, once": prepared}
