"""Images in a local folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foir.errors import Unavailable
from foir.image_formats import IMAGE_SUFFIXES
from foir.videos import VIDEO_SUFFIXES, split_key

from ..stamps import stamp_of
from .base import Chunk, Metadata, SourceImage
from .frames import with_frames

INDEXED_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def open_folder(address: str, out: Path) -> FolderSource | None:
    """Open an existing folder, whatever its name looks like; see `open_source`."""
    return FolderSource(Path(address), out) if Path(address).is_dir() else None


class FolderSource:
    """The image files and frames of videos under a folder, listed once."""

    def __init__(self, folder: Path, out: Path, metadata: Mapping[str, Metadata] | None = None) -> None:
        """List the files.

        Args:
            folder: The folder.
            out: The index to build, which is skipped where it lies inside.
            metadata: By file name relative to the folder.

        Raises:
            Unavailable: There is no such folder, or it is the index itself.
        """
        if not folder.is_dir():
            raise Unavailable(f"There is no folder {folder}.")
        if folder.resolve() == out.resolve():
            raise Unavailable("The index cannot lie in the image folder itself: choose another folder for it.")
        self.root, self.metadata = folder, metadata or {}
        files, unlisted = list_images(folder, out)
        self.files, damaged = with_frames(folder, files, {})
        self.rejected = [*unlisted, *damaged]

    def chunks(self, size: int) -> Sequence[Chunk]:
        """The files in sorted order. Ids are positions in it: an unreadable file does not shift the ids of others."""
        if not self.files:
            raise Unavailable(f"The folder {self.root} holds no images.")
        return split_files(self.root, list(enumerate(self.files)), size, self.metadata)


@dataclass(frozen=True)
class FolderChunk:
    """Files of a folder as (id, relative name), with what is known about them."""

    folder: Path
    files: tuple[tuple[int, str], ...]
    metadata: Mapping[str, Metadata] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> Any:
        """Ids, names, sizes, modification times and metadata."""
        stats: list[Any] = []
        for id, name in self.files:
            try:
                stats.append([id, name, *stamp_of(self.folder / split_key(name)[0])])
            except OSError:
                stats.append([id, name, None, None])
        return [str(self.folder.resolve()), stats, repr([self.metadata.get(name) for _, name in self.files])]

    def images(self) -> Iterator[SourceImage]:
        """The files. A missing one fails only when it is read."""
        for id, key in self.files:
            name, time = split_key(key)
            yield SourceImage(id, name, self.folder / name, self.metadata.get(name, Metadata()), time)


def split_files(
    folder: Path, files: Sequence[tuple[int, str]], size: int, metadata: Mapping[str, Metadata] | None = None
) -> list[Chunk]:
    """Chunks of at most `size` files that have their ids already."""
    chunks = [tuple(files[start : start + size]) for start in range(0, len(files), size)]
    known = metadata or {}
    return [FolderChunk(folder, chunk, {name: known[name] for _, name in chunk if name in known}) for chunk in chunks]


def list_images(folder: Path, out: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Image and video files under `folder`, relative and sorted, and an entry for each folder that could not be listed.

    Hidden files, hidden folders and the index `out` are skipped.
    """
    files: list[str] = []
    unlisted: list[dict[str, str]] = []

    def record_error(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder that was removed in the meantime holds nothing
            name = Path(error.filename).relative_to(folder).as_posix()
            unlisted.append({"file": printable_name(name), "reason": f"The folder cannot be listed: {error.strerror}."})

    for parent, folders, names in os.walk(folder, onerror=record_error):
        base = Path(parent)
        folders[:] = [n for n in folders if not n.startswith(".") and (base / n).resolve() != out.resolve()]
        for name in names:
            if Path(name).suffix.lower() in INDEXED_SUFFIXES and not name.startswith("."):
                files.append((base / name).relative_to(folder).as_posix())
    return sorted(files), sorted(unlisted, key=lambda entry: entry["file"])


def printable_name(name: str) -> str:
    """A file name with bytes that are not UTF-8 replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
