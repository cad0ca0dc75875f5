"""Pictures decoded ahead of the encoder; one that cannot be read is noted and passed over."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foir import images
from foir.errors import BadImage
from foir.index import Item, Object
from index_build.sources.folder import Raw, shown

AHEAD = 32  # pictures decoded before the encoder asks for them
Pixels = Callable[[Image.Image, Sequence[Object]], Any]


@dataclass(frozen=True)
class Decoded:
    """A readable picture: its item, its known objects, and its pixels as the encoders want them."""

    item: Item
    objects: tuple[Object, ...]
    pixels: Any


@dataclass(frozen=True)
class Rejected:
    """One that cannot be read, and why."""

    file: str
    reason: str


def decoded(
    pictures: Iterable[Raw], pixels: Pixels, keep_thumb: Callable[[Image.Image], str]
) -> Iterator[Decoded | Rejected]:
    """Pictures in their order, decoded a little ahead of the encoder.

    Args:
        pictures: As a source gives them.
        pixels: What the encoders want of a picture and of the objects known on it.
        keep_thumb: Keeps a picture's thumbnail and gives its digest; called on many threads.
    """

    def decode(raw: Raw) -> Decoded | Rejected:
        try:
            return _decode(raw, pixels, keep_thumb)
        except BadImage as error:
            return Rejected(shown(raw.name), str(error))

    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        ahead: deque[Future[Decoded | Rejected]] = deque()
        try:
            for raw in pictures:
                ahead.append(pool.submit(decode, raw))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def _decode(raw: Raw, pixels: Pixels, keep_thumb: Callable[[Image.Image], str]) -> Decoded:
    if shown(raw.name) != raw.name:
        raise BadImage(f"{shown(raw.name)} has a name that is not UTF-8: rename the file.")
    size, modified = _stamp(raw.data)
    photo = images.read(raw.data)
    note = raw.note
    item = Item(raw.id, raw.name, *photo.size, note.caption, note.source, note.licence, keep_thumb(photo.image),
                size, modified)  # fmt: skip
    return Decoded(item, note.objects, pixels(photo.image, note.objects))


def _stamp(data: Path | bytes) -> tuple[int | None, int | None]:
    """Size and time of change of a file before it is read: a change while it is read shows at the next update."""
    if isinstance(data, bytes):
        return None, None
    try:
        stat = data.stat()
    except OSError:
        return None, None
    return stat.st_size, stat.st_mtime_ns
