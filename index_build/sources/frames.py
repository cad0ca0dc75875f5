"""Videos in a folder, as the frames that stand for them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

from foir import decoders
from foir.decoders import MAX_DECODERS
from foir.errors import BadImage
from foir.index import Item
from foir.index.format import digest
from foir.videos import VIDEO_SUFFIXES, frame_key

from ..stamps import stamp_of


def with_frames(
    root: Path, files: Sequence[str], known: Mapping[str, Sequence[Item]], passed_over: Container[str] = ()
) -> tuple[list[str], list[dict[str, str]]]:
    """The files of a folder, with the keys of its frames in place of each video (`foir.videos.frame_key`).

    Args:
        root: The folder.
        files: Names of images and videos in it.
        known: Items of an index by file. A video that did not change since is not looked through again.
        passed_over: Names that are known to be unreadable; they stay as they are.

    Returns:
        The keys, and an entry for each video that cannot be read.
    """
    keys: list[str] = []
    rejected: list[dict[str, str]] = []
    pool = ThreadPoolExecutor(MAX_DECODERS)
    try:
        found = {
            name: pool.submit(_times, root / name, known.get(name, ()))
            for name in files
            if _is_video(name) and name not in passed_over
        }
        for name in files:
            if name not in found:
                keys.append(name)
                continue
            try:
                keys += [frame_key(name, time) for time in found[name].result()]
            except BadImage as error:
                rejected.append({"file": name, "reason": str(error)})
    finally:
        pool.shutdown(cancel_futures=True)
    return keys, rejected


def content_of(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal; a video's, which its frames share, is computed once."""
    return _digest(path, *stamp_of(path))


@lru_cache(64)
def _digest(path: Path, size: int, modified: int) -> str:
    return digest(path)


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def _times(path: Path, known: Sequence[Item]) -> list[float]:
    if not path.is_file():  # a pipe would wait for a writer
        raise BadImage(f"{path.name} is not a file.")
    try:
        stamp = stamp_of(path)
    except OSError as error:
        raise BadImage(f"{path.name} cannot be opened: {error.strerror or error}.") from error
    if known and all((item.bytes, item.modified) == stamp for item in known):
        return sorted(item.time for item in known if item.time is not None)
    return decoders.frame_times(path)
