"""Flickr8k indexed on one machine and on a Ray cluster that loses a worker in the middle, compared row by row."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from foir import hub
from foir.app.jobs import MODULE as INDEX_BUILD
from foir.errors import Unavailable
from foir.index import Index

pipeline: Any = import_module(f"{INDEX_BUILD}.pipeline")
PARTIAL = import_module(f"{INDEX_BUILD}.shards").PARTIAL
ACTOR = b"EncoderActor"  # in the name that Ray gives the process of an actor that encodes


def main() -> str:
    """Measure with `mini`; returns a Markdown table.

    Raises:
        Unavailable: The photos of Flickr8k are not at hand.
    """
    photos = hub.data_folder() / "flickr8k" / "images"
    if not photos.is_dir():
        raise Unavailable(f"There are no photos of Flickr8k at {photos}.")
    with tempfile.TemporaryDirectory() as temporary:
        seconds = {}
        plans = {name: pipeline.Plan(photos, Path(temporary) / name, "mini", heads=True) for name in ("one", "many")}
        started = time.perf_counter()
        pipeline.build(plans["one"])
        seconds["one machine"] = time.perf_counter() - started
        runs = len(Index.open(plans["one"].out).space("image").shards)
        killer = WorkerKiller(plans["many"].out, runs // 2)
        started = time.perf_counter()
        built = pipeline.build(pipeline.Plan(photos, plans["many"].out, "mini", heads=True, ray="local"))
        seconds["a Ray cluster on the same machine, one worker killed"] = time.perf_counter() - started
        largest, equal = compared(Index.open(plans["many"].out), Index.open(plans["one"].out))
    return "\n".join(
        [
            "| build | seconds |",
            "|---|---|",
            *(f"| {name} | {time:.0f} |" for name, time in seconds.items()),
            "",
            f"{built.image_count} images, {len(built.rejected)} left out; worker {killer.killed} was killed after "
            f"{runs // 2} of {runs} shards. Each image is in its row, with id, size and thumbnail; of {equal[1]} rows "
            f"{equal[0]} have equal numbers, the largest difference of a number is {largest:.1e}.",
        ]
    )


class WorkerKiller:
    """Kills one encoding process once `shards` shards are written."""

    def __init__(self, out: Path, shards: int) -> None:
        self.killed: int | None = None
        self._out, self._shards = out, shards
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while self.killed is None:
            if len(list((self._out / PARTIAL).glob("*.json"))) >= self._shards:
                for entry in Path("/proc").iterdir():
                    try:
                        named = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
                    except OSError:
                        continue
                    if named.startswith(b"ray::") and ACTOR in named and self.killed is None:
                        self.killed = int(entry.name)
                        os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.1)


def compared(first: Index, second: Index) -> tuple[float, tuple[int, int]]:
    """The largest difference of two indexes' numbers, the number of equal rows, and the number of all rows.

    Raises:
        Unavailable: The indexes are of different images.
    """
    items = [
        [(item.id, item.file, item.width, item.height, item.thumb) for item in index.items()]
        for index in (first, second)
    ]
    if items[0] != items[1] or first.rejected() != second.rejected():
        raise Unavailable("The two indexes are not of the same images.")
    largest, equal = 0.0, 0
    first_space, second_space = first.space("image"), second.space("image")
    for parts in zip(first_space.shards, second_space.shards, first_space.z, second_space.z, strict=True):
        a, b, c, d = (np.asarray(part, np.float32).reshape(len(part), -1) for part in parts)
        largest = max(largest, float(np.abs(a - b).max()))
        equal += int(((a == b).all(1) & (c == d).all(1)).sum())
    return largest, (equal, len(first))
