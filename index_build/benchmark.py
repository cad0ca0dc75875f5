"""Compares the throughput of a whole build with that of the encoder alone. Every twentieth file is damaged."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foir import images
from foir.errors import Unavailable
from foir.index import Index
from foir.regions.recipe import RegionRecipe

from .encoding import EncodedBatch, LoadedEncoders, load_encoders
from .executor import BATCH_SIZE
from .pipeline import Plan, build
from .sources.folder import list_images

DAMAGE_INTERVAL = 20  # one of so many files is damaged
PAUSE_INTERVAL, PAUSE_BATCHES = 32, 4  # after so many batches the build pauses while so many are encoded from memory
SAMPLE = 200  # rows that are encoded again
DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data[: len(data) // 2],
    lambda data: data[:2] + bytes(len(data) - 2),
    lambda data: b"<html>not found</html>",
    lambda data: b"",
)


def run(folder: Path, *, encoder: str = "mini", limit: int | None = None, dtype: str = "auto") -> str:
    """Build an index with head cache and thumbnails, and measure; returns a Markdown table.

    Args:
        folder: Images. They are linked, damaged copies are written beside the links.
        encoder: Registry name.
        limit: Take only so many images.
        dtype: In which the encoder computes.

    Raises:
        Unavailable: There are no images.
    """
    names = list_images(folder, folder)[0][:limit]
    if not names:
        raise Unavailable(f"The folder {folder} holds no images.")
    started = time.perf_counter()
    loaded = load_encoders(encoder, None, RegionRecipe(), revision=None, device="auto", dtype=dtype)
    encoders = _TimedEncoders(loaded, folder, names)
    loading = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        damaged = _write_folder(folder, names, base / "images")
        started = time.perf_counter()
        result = build(Plan(base / "images", base / "index", encoder, heads=True), encoders)
        seconds = time.perf_counter() - started - encoders.paused
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kB, as Linux counts
        index = Index.open(base / "index")
        rejected = {entry["file"] for entry in index.rejected()}
        wrong = _count_wrong_rows(index, loaded, base / "images")
    alone, whole = encoders.encoded / encoders.paused, result.image_count / seconds
    lines = [
        f"{len(names)} images of {folder.name}, {len(damaged)} of them damaged, {encoder} in "
        f"{loaded.records['image'].dtype} with head cache and thumbnails, {os.cpu_count()} CPUs. The encoder alone was "
        f"timed in {encoders.pauses} pauses of the build.",
        "",
        "| measure | value |",
        "|---|---|",
        f"| encoder alone, from memory | {alone:.2f} images a second |",
        f"| whole build, readable images | {whole:.2f} images a second |",
        f"| build / encoder alone | {whole / alone:.3f} |",
        f"| loading the encoder, once | {loading:.1f} s |",
        f"| peak memory | {peak:.2f} GB |",
        f"| damaged files that were not rejected, or rejected files without damage | {len(damaged ^ rejected)} |",
        f"| rows that differ from their image, of {min(SAMPLE, result.image_count)} encoded again | {wrong} |",
    ]
    return "\n".join(lines)


class _TimedEncoders:
    """Encoders that pause now and then to time the encoder alone, so that both are measured under the same load."""

    def __init__(self, encoders: LoadedEncoders, folder: Path, names: Sequence[str]) -> None:
        self.encoders, self.records, self.preprocess = encoders, encoders.records, encoders.preprocess
        self.region_recipe, self.min_side = encoders.region_recipe, encoders.min_side
        readable = [images.read(folder / name).image for name in names[: PAUSE_BATCHES * BATCH_SIZE]]
        self.inputs = [encoders.preprocess(image) for image in readable]
        self.calls, self.pauses, self.encoded, self.paused = 0, 0, 0, 0.0

    def encode(self, inputs: Sequence[Any]) -> EncodedBatch:
        """Encode a batch, after a pause for the encoder alone when it is due."""
        if self.calls % PAUSE_INTERVAL == 0:
            started = time.perf_counter()
            for start in range(0, len(self.inputs), BATCH_SIZE):
                self.encoders.encode(self.inputs[start : start + BATCH_SIZE])
            self.paused += time.perf_counter() - started
            self.encoded += len(self.inputs)
            self.pauses += 1
        self.calls += 1
        return self.encoders.encode(inputs)


def _write_folder(folder: Path, names: Sequence[str], out: Path) -> set[str]:
    """Link the images into a new folder, with one of `DAMAGE_INTERVAL` damaged; returns the damaged names."""
    damaged = set()
    for number, name in enumerate(names):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % DAMAGE_INTERVAL:
            path.symlink_to((folder / name).resolve())
        else:
            damage = DAMAGES[number // DAMAGE_INTERVAL % len(DAMAGES)]
            path.write_bytes(damage((folder / name).read_bytes()))
            damaged.add(name)
    return damaged


def _count_wrong_rows(index: Index, encoders: LoadedEncoders, folder: Path) -> int:
    """Of a sample of rows, how many are not nearest to their own image, encoded again."""
    rows = np.random.default_rng(0).permutation(len(index))[:SAMPLE]
    stored = np.concatenate(index.space("image").shards).astype(np.float32)
    wrong = 0
    for row in rows:
        image = images.read(folder / index.item(int(row)).file).image
        scores = stored @ encoders.encode([encoders.preprocess(image)]).vectors["image"][0]
        wrong += bool(scores[row] < 0.999 or scores.max() > scores[row] + 1e-3)
    return wrong
