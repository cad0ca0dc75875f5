"""What a whole build costs beside the encoder alone, on a folder in which every twentieth file is damaged; one run."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foir import images
from foir.errors import Unavailable
from foir.index import Index, Object
from index_build.encoding import Encoders, Seen, opened
from index_build.pipeline import Plan, build
from index_build.shards import BATCH
from index_build.sources.folder import listing

EVERY = 20  # of so many files one is damaged
PAUSE, ALONE = 32, 4  # after so many batches the build waits while so many are encoded from memory
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
    started = time.perf_counter()
    eyes = _Watched(opened(encoder, None, None, revision=None, device="auto", dtype="float32"), folder, names)
    opening = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        damaged = _laid_out(folder, names, base / "pictures")
        started = time.perf_counter()
        built = build(Plan(base / "pictures", base / "index", encoder, heads=True), eyes)
        seconds = time.perf_counter() - started - eyes.waited
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kB, as Linux counts
        index = Index.open(base / "index")
        told = {entry["file"] for entry in index.rejected()}
        wrong = _wrong(index, eyes.eyes, base / "pictures")
    alone, whole = eyes.encoded / eyes.waited, built.pictures / seconds
    lines = [
        f"{len(names)} pictures of {folder.name}, {len(damaged)} of them damaged, {encoder} with head cache and "
        f"thumbnails, {os.cpu_count()} CPUs. The encoder alone was timed in {eyes.pauses} pauses of the build.",
        "",
        "| what | measured |",
        "|---|---|",
        f"| encoder alone, from memory | {alone:.2f} pictures a second |",
        f"| whole build, readable pictures | {whole:.2f} pictures a second |",
        f"| the build beside the encoder | {whole / alone:.3f} |",
        f"| opening the encoder, once | {opening:.1f} s |",
        f"| peak memory | {peak:.2f} GB |",
        f"| damaged files without a reason, or reasons without damage | {len(damaged ^ told)} |",
        f"| rows that are not their picture, of {min(SAMPLE, built.pictures)} encoded again | {wrong} |",
    ]
    return "\n".join(lines)


class _Watched:
    """Eyes that now and then stop to time the encoder alone, so that both are measured under the same weather."""

    def __init__(self, eyes: Encoders, folder: Path, names: Sequence[str]) -> None:
        self.eyes, self.made_by = eyes, eyes.made_by
        readable = [images.read(folder / name).image for name in names[: ALONE * BATCH]]
        self.memory = [eyes.pixels(image) for image in readable]
        self.calls, self.pauses, self.encoded, self.waited = 0, 0, 0, 0.0

    def pixels(self, image: Image.Image, known: Sequence[Object] = ()) -> Any:
        """As the eyes do."""
        return self.eyes.pixels(image, known)

    def see(self, pixels: Sequence[Any]) -> Seen:
        """As the eyes do, after a pause for the encoder alone when it is time."""
        if self.calls % PAUSE == 0:
            started = time.perf_counter()
            for start in range(0, len(self.memory), BATCH):
                self.eyes.see(self.memory[start : start + BATCH])
            self.waited += time.perf_counter() - started
            self.encoded += len(self.memory)
            self.pauses += 1
        self.calls += 1
        return self.eyes.see(pixels)


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
