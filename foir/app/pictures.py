"""Pictures that the page and its API open: uploads and images of a collection, within limits."""

from __future__ import annotations

import math
from dataclasses import replace

from PIL import Image

from foir import decoders
from foir.images import Photo
from foir.index import Item, pictures
from foir.index.protocol import IndexLike

UPLOAD_PIXELS = 24_000_000
SESSION_PIXELS = 8_000_000  # a session keeps its image in memory; models read at most some hundred pixels of a side
UPLOAD_BYTES = 20_000_000
DECODE_SECONDS = 10.0  # for one image; a visitor waits for it


def read_upload(data: bytes) -> Photo:
    """Read a user's image.

    Raises:
        BadImage: It cannot be read, or is too large.
    """
    return decoders.read(data, max_bytes=UPLOAD_BYTES, max_pixels=UPLOAD_PIXELS, deadline=DECODE_SECONDS)


def read_picture(index: IndexLike, item: Item) -> Photo:
    """Read an image of a collection.

    Raises:
        BadIndex: Neither its file nor its thumbnail exists.
        BadImage: It cannot be read.
    """
    return pictures.read_picture(index, item, deadline=DECODE_SECONDS)


def reduce(photo: Photo) -> Photo:
    """The photo as a session keeps it: of at most SESSION_PIXELS, without what no model reads."""
    width, height = photo.size
    scale = math.sqrt(SESSION_PIXELS / (width * height))
    image = photo.image
    if scale < 1:
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return replace(photo, image=image, alpha=None)
