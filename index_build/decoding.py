"""Decoding images by `foir.decoders`, ahead of the encoder. Unreadable images are recorded and skipped."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from foir import decoders
from foir.errors import BadImage
from foir.index import Item, Object
from foir.index.tables import MAX_CHARACTERS
from foir.photo_facts import PhotoFacts

from .encoding import Preprocess
from .sources import SourceImage
from .sources.folder import printable_name
from .sources.frames import content_of
from .stamps import stamp_of

PREFETCH = 32  # images decoded before the encoder asks for them
THREADS = max(2, os.cpu_count() or 1)  # each waits for a decoder and makes the thumbnail and the encoders' input


@dataclass(frozen=True)
class DecodedImage:
    """A readable image: its item, its known objects, and the encoders' input."""

    item: Item
    objects: tuple[Object, ...]
    inputs: Any


@dataclass(frozen=True)
class RejectedImage:
    """An unreadable image, and why it cannot be read."""

    file: str
    reason: str


def decode_images(
    sources: Iterable[SourceImage],
    preprocess: Preprocess,
    write_thumbnail: Callable[[Image.Image], str],
    threads: int = THREADS,
    *,
    min_side: int = 0,
) -> Iterator[DecodedImage | RejectedImage]:
    """Decode images in order, a little ahead of the encoder.

    Args:
        sources: The images.
        preprocess: Returns the encoders' input for an image and its known objects.
        write_thumbnail: Stores the thumbnail of an image and returns its digest. Called from many threads.
        threads: Number of images that are decoded at a time.
        min_side: See `foir.decoders.read`.
    """

    def decode(source: SourceImage) -> DecodedImage | RejectedImage:
        try:
            return _decode(source, preprocess, write_thumbnail, min_side)
        except BadImage as error:
            return RejectedImage(printable_name(source.name), str(error))

    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[DecodedImage | RejectedImage]] = deque()
        try:
            for source in sources:
                pending.append(pool.submit(decode, source))
                if len(pending) > PREFETCH:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _decode(
    source: SourceImage, preprocess: Preprocess, write_thumbnail: Callable[[Image.Image], str], min_side: int
) -> DecodedImage:
    name = printable_name(source.name)
    if name != source.name:
        raise BadImage(f"{name} has a name that is not UTF-8: rename the file.")
    if len(name) > MAX_CHARACTERS["file"] or "\0" in name:
        raise BadImage(f"{name[:100]} has a name that is too long, or holds a null character.")
    size, modified = _file_stamp(source.data)
    content: str | None = None
    if isinstance(source.data, Path) and source.time is not None:
        photo, content = decoders.read_frame(source.data, source.time), content_of(source.data)
    else:
        photo = decoders.read(source.data, min_side=min_side, name=PurePosixPath(name).name)
        content = None if isinstance(source.data, bytes) else photo.content
    width, height = photo.full_size or photo.size
    known = source.metadata
    item = Item(
        id=source.id,
        file=name,
        time=source.time,
        width=width,
        height=height,
        caption=known.caption,
        source=known.source,
        licence=known.licence,
        thumb=write_thumbnail(photo.image),
        bytes=size,
        modified=modified,
        content=content,
        **item_facts(known.facts or photo.facts, modified),
    )
    return DecodedImage(item, known.objects, preprocess(photo.image, known.objects))


def item_facts(known: PhotoFacts, modified: int | None) -> dict[str, Any]:
    """What the photo says about itself, as fields of an item; its file's time where it does not say when it was taken.

    A file's time is written as this machine's clock showed it then.
    """
    facts = asdict(known)
    if facts["taken"] is not None:
        return facts | {"taken_from": "exif"}
    if modified is None:
        return facts
    try:
        offset = datetime.fromtimestamp(modified / 1e9).astimezone().utcoffset() or timedelta()
    except (ValueError, OverflowError, OSError):  # no time that this machine's calendar has
        return facts
    taken = modified // 10**9 + int(offset.total_seconds())
    return facts | {"taken": taken, "taken_offset": int(offset.total_seconds()) // 60, "taken_from": "file"}


def _file_stamp(data: Path | bytes) -> tuple[int | None, int | None]:
    """Size and modification time before a file is read: the next update notices a change while it is read."""
    if isinstance(data, bytes):
        return None, None
    try:
        return stamp_of(data)
    except OSError:
        return None, None
