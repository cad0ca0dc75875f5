"""A full disk: each write, sync and new folder fails once, with the error of a disk that is full."""

import errno
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from foir.errors import FoirError
from index_build import pipeline
from tests import kill_points

OPERATIONS = ("build", "rebuild", "update", "add", "remove", "gc")


def measure() -> str:
    seen = filled()
    tries = seen["tries"]
    wrong = (
        f"{seen['no sentence']} without a sentence, {seen['lost']} lost the index, {seen['stuck']} not finished later"
    )
    return f"{tries} times full: {seen['said']} said so, {seen['harmless']} needed no space; {wrong}"


def filled(operations: tuple[str, ...] = OPERATIONS, every: int = 1) -> Counter[str]:
    """How operations behave when the disk is full at every `every`-th of their writes."""
    seen: Counter[str] = Counter()
    usual, pipeline.SHARD_SIZE = pipeline.SHARD_SIZE, 4
    try:
        for name in operations:
            with tempfile.TemporaryDirectory() as folder:
                seen += _fill(name, Path(folder), every)
    finally:
        pipeline.SHARD_SIZE = usual
    return seen


def _fill(name: str, base: Path, every: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for number in count(1, every):
        case = base / str(number)
        pictures, out = case / "pictures", case / "index"
        kill_points.pictures(pictures)
        work = kill_points.operations(pictures, out)
        if name != "build":
            work["build"]()
            kill_points.others(pictures)
        if name == "gc":
            work["update"]()
        before, outcome = _state(out), "harmless"
        with full_at(number) as disk:
            try:
                work[name]()
            except FoirError as error:
                outcome = "said" if _says(error) else "no sentence"
            except OSError:
                outcome = "no sentence"
        if not disk.is_full:
            return seen
        now = _state(out)
        seen.update({"tries": 1, outcome: 1})
        try:
            work[name]()
        except FoirError:
            seen["stuck"] += name != "remove" or now == before
        seen["lost"] += now not in (before, _state(out))
    return seen


def _state(out: Path) -> str | None:
    try:
        return kill_points.state(out) if out.exists() else None
    except AssertionError:
        return "damaged"


def _says(error: FoirError) -> bool:
    text = str(error)
    return text.endswith(".") and ". " not in text and ("full" in text or "No space left" in text)


class Filling:
    """A disk that is full from the n-th write, sync or new folder on: half of that write is still there."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    @property
    def is_full(self) -> bool:
        return self.seen >= self.number

    def take(self) -> None:
        self.seen += 1
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def calls(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.take()
            return real(*args, **more)

        return call

    def open(self, path: Path, mode: str = "r", buffering: int = -1, *args: Any, **more: Any) -> Any:
        if "w" not in mode:
            return io.open(path, mode, buffering, *args, **more)  # noqa: PTH123, UP020 - this takes the place of Path.open
        taken = self.take

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                try:
                    taken()
                except OSError:
                    super().write(bytes(data)[: len(data) // 2])
                    raise
                return super().write(data)

        buffered = io.BufferedWriter(File(path, "w"))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")


@contextmanager
def full_at(number: int) -> Iterator[Filling]:
    """Inside the block the disk is full from the n-th write on."""
    disk = Filling(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", disk.calls(os.fsync))
        patch.setattr(os, "mkdir", disk.calls(os.mkdir))
        patch.setattr(Path, "open", lambda path, *args, **more: disk.open(path, *args, **more))
        yield disk
