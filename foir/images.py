"""Decoding of untrusted image bytes: the header is checked first; the result is upright RGB.

`read` decodes in this process, for a script or command on its user's own file: what a crafted file can cost there is
that one command. What serves or indexes files of others calls `foir.decoders.read`, which decodes in processes with
limits of time and memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from foir.arguments import checked
from foir.errors import BadImage
from foir.image_formats import BUILT_IN, check_readable, is_raw, pillow_formats, raw_preview
from foir.jpeg_scans import has_more_scans
from foir.photo_facts import PhotoFacts, read_facts

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 80_000_000
MAX_SCANS = 100  # of a JPEG; a decoder goes over the whole image once for each, and encoders write about ten
ORIENTATION_TAG = 0x0112

# Transposition that makes the stored pixels upright, by EXIF orientation value.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_TURNED = (5, 6, 7, 8)  # orientations that swap width and height

# The pixel limit below is under Pillow's own and is checked from the header, so its warning adds nothing.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded image.

    Attributes:
        image: RGB, 8 bit, upright (EXIF orientation applied, transparency composed on white).
        orientation: EXIF orientation (1-8) of the file; 1 if it was upright.
        notes: What a user should know, one short sentence each ("Only the first frame is used.").
        alpha: Transparency of the file, 8 bit, upright; None if every pixel is opaque.
        content: SHA-256 of the bytes of the file, in hexadecimal.
        full_size: Width and height of the upright image where it was decoded smaller than it is; else None.
        facts: What it says about itself.
    """

    image: Image.Image
    orientation: int = 1
    notes: tuple[str, ...] = ()
    alpha: Image.Image | None = None
    content: str | None = None
    full_size: tuple[int, int] | None = None
    facts: PhotoFacts = PhotoFacts()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image in pixels."""
        return self.image.size


@checked
def read(source: Path | str | bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode one image from a file or from bytes.

    Args:
        source: A path, or the bytes of an image file: JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF, and what installed
            packages add (`foir.image_formats`).
        max_bytes: Larger files are refused before they are read.
        max_pixels: Larger images are refused from their header, before they are decoded.

    Raises:
        BadImage: The file is missing, empty, too large, truncated, damaged or of another kind.
    """
    name, data = fetch(source, max_bytes)
    return replace(decode(data, name, max_pixels), content=hashlib.sha256(data).hexdigest())


def fetch(source: Path | str | bytes, max_bytes: int) -> tuple[str, bytes]:
    """The name of an image in messages, and its bytes, of which there are 1 to `max_bytes`.

    Raises:
        BadImage: The file is missing, no regular file, empty or too large.
    """
    if isinstance(source, bytes):
        name, data, size = "The upload", source, len(source)
    else:
        name = _printable_name(Path(source))
        data, size = _read_file(Path(source), name, max_bytes)
    if not size:
        raise BadImage(f"{name} is empty.")
    if size > max_bytes:
        raise BadImage(f"{name} has {size / 2**20:.0f} MB; the limit is {max_bytes / 2**20:.0f} MB.")
    return name, data


def decode(data: bytes, name: str, max_pixels: int, min_side: int = 0) -> Photo:
    """Decode the bytes of an image file, which messages call `name`; see `read`.

    With `min_side`, a JPEG may be decoded at a half, quarter or eighth of its size, where its shorter side keeps that
    many pixels.
    """
    check_readable(data, name)
    if is_raw(data, name):
        return _decode_raw(data, name, max_pixels, min_side)
    if has_more_scans(data, MAX_SCANS):
        raise BadImage(f"{name} is a JPEG of more than {MAX_SCANS} scans: save it again without progressive scans.")
    try:
        with Image.open(io.BytesIO(data), formats=pillow_formats()) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise BadImage(
                    f"{name} has {width} x {height} pixels; the limit is {max_pixels / 1e6:.0f} million, "
                    "so please make it smaller first."
                )
            has_frames = _has_frames(opened)
            # Pillow transposes a TIFF itself as it decodes, and forgets its EXIF; a PNG may keep it behind its pixels.
            is_tiff = opened.format == "TIFF"
            applied = _orientation(opened) if is_tiff else 1
            facts = read_facts(opened) if is_tiff else PhotoFacts()
            if min_side:
                opened.draft(None, (min_side, min_side))
            opened.load()
            remaining = _orientation(opened)
            image = upright(_to_rgb(opened), remaining)
            alpha = _alpha(opened, remaining)
            orientation = remaining if remaining > 1 else applied
            facts = facts if is_tiff else read_facts(opened)
            is_smaller = opened.size != (width, height) and opened.size != (height, width)
    except BadImage:
        raise
    except MemoryError:
        raise BadImage(f"{name} takes too much memory to decode: make it smaller first.") from None
    except Image.DecompressionBombError:
        raise BadImage(f"{name} claims far too many pixels to be opened safely.") from None
    except UnidentifiedImageError:
        raise BadImage(f"{name} is not a picture foir can read; it takes {', '.join(BUILT_IN)}.") from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise BadImage(f"{name} is damaged or incomplete and cannot be decoded ({type(error).__name__}).") from error
    image.info.clear()  # comments are private, and every JPEG made from the image would carry them
    full_size = ((height, width) if remaining in _TURNED else (width, height)) if is_smaller else None
    notes = ("Only the first frame is used.",) if has_frames else ()
    return Photo(image, orientation, notes, alpha, full_size=full_size, facts=facts)


def _decode_raw(data: bytes, name: str, max_pixels: int, min_side: int) -> Photo:
    """Decode the preview in a RAW file, turned as the RAW says where the preview says nothing."""
    preview, orientation = raw_preview(data, name)
    if is_raw(preview, ""):
        raise BadImage(f"{name} is damaged: its preview is a RAW file again.")
    photo = decode(preview, name, max_pixels, min_side)
    facts = photo.facts
    if facts.taken is None:  # most RAW files are TIFF files, with their EXIF data where a TIFF has them
        exif = Image.new("L", (1, 1))
        exif.info["exif"] = data
        facts = read_facts(exif)
    if photo.orientation != 1 or orientation == 1:
        return replace(photo, facts=facts)
    size = photo.full_size
    if size is not None and orientation in _TURNED:
        size = size[::-1]
    image = upright(photo.image, orientation)
    return replace(photo, image=image, orientation=orientation, full_size=size, facts=facts)


@checked
def read_mask(source: Path | str | bytes) -> np.ndarray:
    """Decode a mask file, uint8 [H, W]: its alpha channel unless every pixel is opaque, else its brightness.

    Raises:
        BadImage: See `read`.
    """
    photo = read(source)
    return np.asarray((photo.alpha or photo.image.convert("L")), np.uint8)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Transpose an image or mask of this EXIF orientation (1-8) to what viewers show."""
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def thumbnail(image: Image.Image, side: int = 320) -> bytes:
    """JPEG bytes of an image with its longer side at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    small.info.clear()  # as in `decode`; and a long comment cannot be written
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82)
    return out.getvalue()


def _read_file(path: Path, name: str, max_bytes: int) -> tuple[bytes, int]:
    """The bytes of a regular file and their number, or none of them where there are more than `max_bytes`.

    Files of /proc and devices claim no bytes and are not read, whatever they would give.
    """

    def open_at_once(file: str, flags: int) -> int:  # a pipe would wait for a writer
        return os.open(file, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))

    try:
        if not path.is_file():  # opening a device can already do something
            raise BadImage(f"{name} is not a file.")
        with open(path, "rb", opener=open_at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):  # another one than a moment ago
                raise BadImage(f"{name} is not a file.")
            return (file.read(max_bytes) if 0 < facts.st_size <= max_bytes else b""), facts.st_size
    except OSError as error:
        raise BadImage(f"{name} cannot be opened: {error.strerror or error}.") from error


def _printable_name(path: Path) -> str:
    """The file's name without characters that would break a one-line message."""
    return "".join(c if c.isprintable() else " " for c in path.name)


def _has_frames(image: Image.Image) -> bool:
    """Whether there are more frames than the first. They are not counted: that walks through the whole file."""
    if image.format == "MPO":  # a phone's JPEG with a depth map or preview behind it is one image
        return False
    return bool(getattr(image, "is_animated", False))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF does not damage the image
        return 1
    return int(value) if value in _TRANSPOSES else 1


def _alpha(image: Image.Image, orientation: int) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else upright(alpha, orientation)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8bit(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8bit(image: Image.Image) -> np.ndarray:
    """Scale 16-bit, 32-bit and float grey values to 0..255 by range, where Pillow would clip them."""
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    low, high = (float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf)))
    if low > high:  # no value is finite
        low = high = 0.0
    values[~finite] = low
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255 and image.mode in ("F", "I"):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535 and image.mode != "F":
        low, high = 0.0, 65535.0
    values -= low  # in place: at 80 million pixels each copy is 640 MB
    values *= 255.0 / max(high - low, 1e-12)
    return np.round(values, out=values).astype(np.uint8)
