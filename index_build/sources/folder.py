"""Where pictures come from, in runs: a run is what one shard holds, and what a killed build can lose."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from foir.errors import Unavailable
from foir.index import Object

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}


@dataclass(frozen=True)
class Note:
    """What is known of a picture beforehand; `objects` need no item id yet."""

    caption: str | None = None
    source: str | None = None
    licence: str | None = None
    objects: tuple[Object, ...] = ()


@dataclass(frozen=True)
class Raw:
    """A picture before it is decoded: its id, its name in the index, its file or bytes, what is known of it."""

    id: int
    name: str
    data: Path | bytes
    note: Note = Note()


class Run(Protocol):
    """Some consecutive pictures of a source."""

    def __len__(self) -> int: ...

    def facts(self) -> Any:
        """What is another when one of the pictures is another, as JSON holds it; nothing is decoded for it."""

    def pictures(self) -> Iterator[Raw]:
        """The pictures in order."""


class Source(Protocol):
    """All pictures of an index, in a fixed order; ids count through it."""

    @property
    def root(self) -> Path | None:
        """The folder that an index of it remembers."""

    @property
    def rejected(self) -> Sequence[dict[str, str]]:
        """What could not even be listed, and why."""

    def runs(self, size: int) -> Sequence[Run]:
        """The pictures in runs of at most `size`.

        Raises:
            Unavailable: There are none.
        """


@dataclass(frozen=True)
class Files:
    """A run of files of a folder, each with its id."""

    folder: Path
    named: tuple[tuple[int, str], ...]
    notes: Mapping[str, Note] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.named)

    def facts(self) -> Any:
        """Ids, names, sizes and times of change, and what is known of the pictures."""
        facts: list[Any] = []
        for id, name in self.named:
            try:
                stat = (self.folder / name).stat()
                facts.append([id, name, stat.st_size, stat.st_mtime_ns])
            except OSError:
                facts.append([id, name, None, None])
        return [str(self.folder.resolve()), facts, repr([self.notes.get(name) for _, name in self.named])]

    def pictures(self) -> Iterator[Raw]:
        """The files; a missing one shows when it is read."""
        return (Raw(id, name, self.folder / name, self.notes.get(name, Note())) for id, name in self.named)


class Folder:
    """A folder of pictures, listed once."""

    def __init__(self, folder: Path, out: Path, notes: Mapping[str, Note] | None = None) -> None:
        """List it; `out`, the index to be made, is left out where it lies inside.

        Raises:
            Unavailable: There is no such folder, or it is the index itself.
        """
        if not folder.is_dir():
            raise Unavailable(f"There is no folder {folder}.")
        if folder.resolve() == out.resolve():
            raise Unavailable("The index cannot lie in the folder of the pictures itself: choose another place for it.")
        self.root, self.notes = folder, notes or {}
        self.files, self.rejected = listing(folder, out)

    def runs(self, size: int) -> Sequence[Run]:
        """Files with a picture's suffix in sorted order; ids are places in it, so none shifts another's."""
        if not self.files:
            raise Unavailable(f"The folder {self.root} holds no pictures.")
        return cut(self.root, list(zip(count(), self.files, strict=False)), size, self.notes)


def cut(
    folder: Path, named: Sequence[tuple[int, str]], size: int, notes: Mapping[str, Note] | None = None
) -> list[Run]:
    """Runs of files that have their ids already."""
    runs = [tuple(named[start : start + size]) for start in range(0, len(named), size)]
    known = notes or {}
    return [Files(folder, run, {name: known[name] for _, name in run if name in known}) for run in runs]


def listing(folder: Path, out: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Files under `folder` with a picture's suffix, relative and sorted, and the folders that could not be listed.

    Hidden files and folders and the index itself are left out.
    """
    found: list[str] = []
    closed: list[dict[str, str]] = []

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder that was removed in the meantime holds nothing
            name = Path(error.filename).relative_to(folder).as_posix()
            closed.append({"file": shown(name), "reason": f"The folder cannot be listed: {error.strerror}."})

    for parent, folders, names in os.walk(folder, onerror=refused):
        base = Path(parent)
        folders[:] = [n for n in folders if not n.startswith(".") and (base / n).resolve() != out.resolve()]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append((base / name).relative_to(folder).as_posix())
    return sorted(found), sorted(closed, key=lambda entry: entry["file"])


def shown(name: str) -> str:
    """A file name with what is not UTF-8 replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
