"""Reading an image of an index: a file, or the frame of a video."""

from __future__ import annotations

from pathlib import Path

from foir import decoders
from foir.decoders import DEADLINE
from foir.images import Photo
from foir.index.protocol import IndexLike
from foir.index.records import Item
from foir.videos import VIDEO_SUFFIXES


def read_picture(index: IndexLike, item: Item, *, deadline: float = DEADLINE) -> Photo:
    """Decode an image of an index; its thumbnail where its file is not at hand.

    Raises:
        BadIndex: Neither its file nor its thumbnail exists.
        BadImage: It cannot be read.
    """
    return read_file(index.picture(item), item.time, deadline=deadline)


def read_file(path: Path, time: float | None, *, deadline: float = DEADLINE) -> Photo:
    """Decode an image file, or the frame of a video at a time; see `foir.decoders.read`."""
    if time is not None and path.suffix.lower() in VIDEO_SUFFIXES:
        return decoders.read_frame(path, time, deadline=deadline)
    return decoders.read(path, deadline=deadline)
