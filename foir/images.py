"""Decoding of untrusted image bytes: the header is checked first; the result is upright RGB."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from foir.arguments import checked
from foir.errors import BadImage

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 80_000_000
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

# The pixel limit below is under Pillow's own and is checked from the header, so its warning adds nothing.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded image.

    Attributes:
        image: RGB, 8 bit, upright (EXIF orientation applied, transparency composed on white).
        orientation: EXIF orientation (1-8) of the file; 1 if it was upright.
        notes: What a user should know, one short sentence each ("Only the first of 12 frames is used.").
        alpha: Transparency of the file, 8 bit, upright; None if every pixel is opaque.
    """

    image: Image.Image
    orientation: int = 1
    notes: tuple[str, ...] = ()
    alpha: Image.Image | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image in pixels."""
        return self.image.size


@checked
def read(source: Path | str | bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode one image from a file or from bytes.

    Args:
        source: A path, or the bytes of an image file: JPEG, PNG, WEBP, GIF, BMP or TIFF.
        max_bytes: Larger files are refused before they are read.
        max_pixels: Larger images are refused from their header, before they are decoded.

    Raises:
        BadImage: The file is missing, empty, too large, truncated, damaged or of another kind.
    """
    name = "The upload" if isinstance(source, bytes) else _printable_name(Path(source))
    data = source if isinstance(source, bytes) else _read_bytes(Path(source), max_bytes)
    if not data:
        raise BadImage(f"{name} is empty.")
    if len(data) > max_bytes:
        raise BadImage(f"{name} has {len(data) / 2**20:.0f} MB; the limit is {max_bytes / 2**20:.0f} MB.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise BadImage(
                    f"{name} has {width} x {height} pixels; the limit is {max_pixels / 1e6:.0f} million, "
                    "so please make it smaller first."
                )
            frames = _frame_count(opened)
            # Pillow transposes a TIFF itself while it decodes; a PNG may keep its EXIF behind its pixels.
            applied = _orientation(opened) if opened.format == "TIFF" else 1
            opened.load()
            remaining = _orientation(opened)
            image = upright(_to_rgb(opened), remaining)
            alpha = _alpha(opened, remaining)
            orientation = remaining if remaining > 1 else applied
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(f"{name} claims far too many pixels to be opened safely.") from None
    except UnidentifiedImageError:
        raise BadImage(f"{name} is not a picture foir can read; it takes {', '.join(FORMATS)}.") from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise BadImage(f"{name} is damaged or incomplete and cannot be decoded ({type(error).__name__}).") from error
    notes = (f"Only the first of {frames} frames is used.",) if frames > 1 else ()
    return Photo(image, orientation, notes, alpha)


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
    small.info.clear()  # comments are private, and a long one cannot be written
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82)
    return out.getvalue()


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            raise BadImage(f"{_printable_name(path)} is not a file.")
        size = path.stat().st_size
        if size > max_bytes:
            raise BadImage(
                f"{_printable_name(path)} has {size / 2**20:.0f} MB; the limit is {max_bytes / 2**20:.0f} MB."
            )
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise BadImage(f"{_printable_name(path)} cannot be opened: {error.strerror or error}.") from error


def _printable_name(path: Path) -> str:
    """The file's name without characters that would break a one-line message."""
    return "".join(c if c.isprintable() else " " for c in path.name)


def _frame_count(image: Image.Image) -> int:
    if image.format == "MPO":  # a phone's JPEG with a depth map or preview behind it is one image
        return 1
    return int(getattr(image, "n_frames", 1))


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
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.where(np.isfinite(values), values, low)
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255 and image.mode in ("F", "I"):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535 and image.mode != "F":
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return np.round(scaled).astype(np.uint8)
