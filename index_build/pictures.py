"""Pictures of a folder, listed and decoded ahead of the encoder; one that cannot be read is noted and passed over."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from foir import images
from foir.encoders.base import Encoder
from foir.errors import BadImage
from foir.index import Item

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
AHEAD = 32  # pictures decoded before the encoder asks for them


@dataclass(frozen=True)
class Decoded:
    """A readable picture: its item, and its pixels as each encoder wants them."""

    item: Item
    pixels: tuple[Tensor, ...]


def listing(folder: Path, out: Path) -> list[str]:
    """Files under `folder` with a picture's suffix, relative and sorted; hidden ones and the index itself left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        base = Path(parent)
        folders[:] = [n for n in folders if not n.startswith(".") and (base / n).resolve() != out.resolve()]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found.append((base / name).relative_to(folder).as_posix())
    return sorted(found)


def decoded(
    folder: Path,
    names: Sequence[str],
    first_id: int,
    eyes: Sequence[Encoder],
    keep_thumb: Callable[[Image.Image], str],
    rejected: list[dict[str, str]],
    bar: tqdm,
) -> Iterator[Decoded]:
    """Readable pictures in listing order, decoded a little ahead of the encoder.

    Args:
        folder: Where they lie.
        names: Relative files.
        first_id: Id of the first of them.
        eyes: The encoders that pixels are made for.
        keep_thumb: Keeps a picture's thumbnail and gives its digest.
        rejected: What cannot be read is added here, with the reason.
        bar: Counts the files.
    """
    workers = max(2, os.cpu_count() or 1)

    def decode(place: int) -> Decoded:
        name = names[place]
        if shown(name) != name:
            raise BadImage(f"{shown(name)} has a name that is not UTF-8: rename the file.")
        photo = images.read(folder / name)
        thumb = keep_thumb(photo.image)
        item = Item(first_id + place, name, *photo.size, caption=None, source=None, licence=None, thumb=thumb)
        return Decoded(item, tuple(encoder.pixels([photo.image])[0] for encoder in eyes))

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Decoded]] = deque()
        try:
            for place in range(len(names) + AHEAD):
                if place < len(names):
                    ahead.append(pool.submit(decode, place))
                if place >= AHEAD and ahead:
                    number = place - AHEAD
                    try:
                        picture = ahead.popleft().result()
                    except BadImage as error:
                        rejected.append({"file": shown(names[number]), "reason": str(error)})
                    else:
                        yield picture
                    bar.update()
        finally:
            for waiting in ahead:
                waiting.cancel()


def shown(name: str) -> str:
    """A file name with what is not UTF-8 replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
