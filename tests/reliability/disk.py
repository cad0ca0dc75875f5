"""A disk that remembers what was written to it, and what of it a power cut would leave at worst.

The worst that POSIX allows: a file's bytes last once the file was synced, and are gone before. That a name was made,
moved or removed lasts once its folder was synced; before, each such change may have reached the disk or not, whatever
came earlier.
"""

import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = -1  # stands for a folder where a number stands for a file


@dataclass
class Change:
    """Names of one folder that change in one step: to a file's number, to a folder, or to nothing."""

    folder: Path
    names: dict[str, int | None]
    synced: int | None = None  # the moment from which on it lasts


@dataclass
class Disk:
    """What happens under a folder, moment by moment."""

    root: Path
    moment: int = 0
    files: int = 0
    live: dict[Path, int] = field(default_factory=dict)  # the file that has a path now
    data: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)  # what a file holds for good, and since when
    changes: list[tuple[int, Change]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # moments worth a power cut

    def __post_init__(self) -> None:
        """What is there already lasts."""
        for path in sorted(self.root.rglob("*")):
            self._put(path, FOLDER if path.is_dir() else self._file(path.read_bytes()))
        for _, change in self.changes:
            change.synced = 0

    def _file(self, data: bytes | None = None) -> int:
        self.files += 1
        self.data[self.files] = [] if data is None else [(0, data)]
        return self.files

    def _put(self, path: Path, file: int | None, **more: int | None) -> None:
        if file is None:
            self.live.pop(path, None)
        else:
            self.live[path] = file
        self.changes.append((self.moment, Change(path.parent, {path.name: file, **more})))

    def happened(self, event: str, args: Sequence[Any]) -> None:
        """Take note of an audited event."""
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike) and isinstance(args[2], int):
            path = Path(os.fsdecode(args[0]))
            if args[2] & (os.O_WRONLY | os.O_RDWR) and path.is_relative_to(self.root):
                self.moment += 1
                if path not in self.live:
                    self._put(path, self._file())
        elif event in ("os.rename", "os.link") and Path(args[1]).is_relative_to(self.root):
            self.moment += 1
            source, target = Path(args[0]), Path(args[1])
            file = self.live.get(source)
            if file is None:  # from elsewhere, where it lasts
                file = self._file(source.read_bytes())
            moved = {source.name: None} if event == "os.rename" and source.parent == target.parent else {}
            self._put(target, file, **moved)
            if event == "os.rename":
                self.live.pop(source, None)
            self.marks.append(self.moment)
        elif event in ("os.remove", "os.rmdir", "os.mkdir") and self._own(args[0]):
            self.moment += 1
            self._put(Path(args[0]), FOLDER if event == "os.mkdir" else None)

    def _own(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and self.root in Path(path).parents

    def sync(self, descriptor: int) -> None:
        """Take note of the syncing of a file or folder."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not path.is_relative_to(self.root):
            return
        self.moment += 1
        if path.is_dir():
            for _, change in self.changes:
                if change.folder == path and change.synced is None:
                    change.synced = self.moment
        elif path in self.live:
            self.data[self.live[path]].append((self.moment, path.read_bytes()))
        self.marks.append(self.moment)

    def after_cut(self, moment: int, kept: "Kept", target: Path) -> None:
        """Write what is left of the folder when power is cut after a moment to another folder.

        `kept` says whether a change that was not synced reached the disk.
        """
        names: dict[Path, int] = {}
        for when, change in self.changes:
            if when > moment or not ((change.synced is not None and change.synced <= moment) or kept(change)):
                continue
            for name, file in change.names.items():
                if file is None:
                    names.pop(change.folder / name, None)
                else:
                    names[change.folder / name] = file
        target.mkdir(parents=True)
        for path, file in sorted(names.items()):
            place = target / path.relative_to(self.root)
            if any(
                parent != self.root and parent.is_relative_to(self.root) and parent not in names
                for parent in path.parents
            ):
                continue  # its folder is gone
            if file == FOLDER:
                place.mkdir()
            else:
                lasting = [data for when, data in self.data[file] if when <= moment]
                place.write_bytes(lasting[-1] if lasting else b"")


class Kept:
    """Which changes that were not synced reached the disk: none, all, only manifests, all but those, or by chance."""

    WAYS = ("none", "all", "the manifest", "all but the manifest", "chance 1", "chance 2")

    def __init__(self, way: str) -> None:
        self.way, self.random = way, random.Random(way)

    def __call__(self, change: Change) -> bool:
        manifest = "manifest.json" in change.names
        if self.way.startswith("chance"):
            return self.random.random() < 0.5
        return {"none": False, "all": True, "the manifest": manifest, "all but the manifest": not manifest}[self.way]


@contextmanager
def recorded(folder: Path) -> Iterator[Disk]:
    """The record of what happens under a folder inside the block, in this process, which should end soon after."""
    disk, real, active = Disk(folder.resolve()), os.fsync, [True]

    def hook(event: str, args: tuple) -> None:
        if active[0] and (event == "open" or event.startswith("os.")):
            active[0] = False
            try:
                disk.happened(event, args)
            finally:
                active[0] = True

    def fsync(descriptor: int) -> None:
        active[0] = False
        disk.sync(descriptor)
        active[0] = True

    sys.addaudithook(hook)
    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield disk
    finally:
        os.fsync, active[0] = real, False
