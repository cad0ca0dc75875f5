"""What a whole build costs beside the encoder alone, on a folder in which every twentieth file is damaged; one run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foir import images
from foir.errors import Unavailable
from foir.index import Index
from index_build.eyes import Encoders, opened
from index_build.shards import BATCH
from index_build.sources import listing

EVERY = 20  # of so many files one is damaged
MEMORY = 256  # pictures that the encoder alone is fed from memory, before the build and after it
SAMPLE = 200  # rows that are encoded again


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeroed(data: bytes) -> bytes:
    return data[:2] + bytes(len(data) - 2)


def _other(data: bytes) -> bytes:
    return b"<html>not found</html>"


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (_cut, _zeroed, _other, lambda data: b"")


def run(folder: Path, *, encoder: str = "mini", limit: int | None = None) -> str:
    """Build an index with head cache and thumbnails and compare; returns a Markdown table.

    Args:
        folder: Pictures; they are linked, damaged ones are written beside them.
        encoder: By name.
        limit: Take only so many of them.

    Raises:
        Unavailable: There are no pictures.
    """
    names = listing(folder, folder)[0][:limit]
    if not names:
        raise Unavailable(f"The folder {folder} holds no pictures.")
    eyes = opened(encoder, None, revision=None, device="auto", dtype="float32")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        damaged = _laid_out(folder, names, base / "pictures")
        pixels = [eyes.pixels(images.read(folder / name).image) for name in names[:MEMORY]]
        before = _alone(eyes, pixels)
        seconds, peak = _built(base / "pictures", base / "index", encoder)
        after = _alone(eyes, pixels)
        index = Index.open(base / "index")
        told = {entry["file"]: entry["reason"] for entry in index.rejected()}
        wrong = _wrong(index, eyes, base / "pictures")
    alone, whole = 2 * len(pixels) / (before + after), len(names) / seconds
    missed = len(damaged - set(told)) + len(set(told) - damaged)
    return "\n".join(
        [
            f"{len(names)} pictures of {folder.name}, {len(damaged)} of them damaged, {encoder} with head cache and "
            f"thumbnails, {os.cpu_count()} CPUs.",
            "",
            "| what | measured |",
            "|---|---|",
            f"| encoder alone, from memory | {alone:.2f} pictures a second |",
            f"| whole build, from starting Python to the finished index | {whole:.2f} pictures a second |",
            f"| the build's good pictures alone beside the encoder | {len(index) / seconds / alone:.3f} |",
            f"| peak memory of the build | {peak:.2f} GB |",
            f"| damaged files without a reason, or reasons without damage | {missed} |",
            f"| rows that are not their picture, of {min(SAMPLE, len(index))} encoded again | {wrong} |",
        ]
    )


def _laid_out(folder: Path, names: Sequence[str], place: Path) -> set[str]:
    """Link the pictures into a folder of their own, with every so manieth damaged; returns the names of those."""
    damaged = set()
    for number, name in enumerate(names):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % EVERY:
            path.symlink_to((folder / name).resolve())
        else:
            path.write_bytes(DAMAGES[number // EVERY % len(DAMAGES)]((folder / name).read_bytes()))
            damaged.add(name)
    return damaged


def _alone(eyes: Encoders, pixels: Sequence[Any]) -> float:
    """Seconds that the encoder takes for pictures that are in memory."""
    eyes.see(pixels[:BATCH])
    started = time.perf_counter()
    for start in range(0, len(pixels), BATCH):
        eyes.see(pixels[start : start + BATCH])
    return time.perf_counter() - started


def _built(folder: Path, out: Path, encoder: str) -> tuple[float, float]:
    """Seconds that the command takes, and the most memory it held, in GB."""
    command = [sys.executable, "-m", "index_build", "build", str(folder), "--out", str(out), "--encoder", encoder]
    started = time.perf_counter()
    child = subprocess.Popen([*command, "--heads"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise Unavailable("The build failed.")
    return time.perf_counter() - started, used.ru_maxrss / 2**20  # kB, as Linux counts


def _wrong(index: Index, eyes: Encoders, folder: Path) -> int:
    """Of a sample of rows, how many are not nearest to their own picture, encoded again."""
    rows = np.random.default_rng(0).permutation(len(index))[:SAMPLE]
    stored = np.concatenate(index.space("image").shards).astype(np.float32)
    wrong = 0
    for row in rows:
        item = index.item(int(row))
        vector = eyes.see([eyes.pixels(images.read(folder / item.file).image)]).vectors["image"][0]
        scores = stored @ vector
        wrong += bool(scores[row] < 0.999 or scores.max() > scores[row] + 1e-3)
    return wrong
