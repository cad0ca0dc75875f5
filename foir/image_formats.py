"""Kinds of image files: those that Pillow reads itself, and those that need another package.

Cameras' RAW files are read by the JPEG preview that lies inside: no RAW is developed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from PIL import Image

from foir.errors import BadImage

BUILT_IN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png webp gif bmp dib tif tiff avif avifs heic heif hif jxl".split()  # noqa: SIM905
)
RAW_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "dng cr2 cr3 crw nef nrw arw sr2 srf raf orf rw2 pef srw 3fr iiq rwl kdc mrw erf".split()  # noqa: SIM905
)
IMAGE_SUFFIXES = SUFFIXES | RAW_SUFFIXES
_TIFF = (b"II*\0", b"MM\0*")
_RAW = re.compile(rb"FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR|....ftypcrx |II\*\0....CR|\0MRM", re.DOTALL)
_FLIPS = {3: 3, 5: 8, 6: 6}  # LibRaw's turns as EXIF orientations


@dataclass(frozen=True)
class Extra:
    """A kind that another package reads.

    Attributes:
        kind: What a message calls it.
        module: The package's module.
        package: Its name on PyPI.
        pillow: The format that it adds to Pillow.
        signature: How such a file begins.
        register: Makes Pillow read it.
    """

    kind: str
    module: str
    package: str
    pillow: str
    signature: re.Pattern[bytes]
    register: Callable[[], None]

    @property
    def installed(self) -> bool:
        """Whether the package is there, and works."""
        return find_spec(self.module) is not None and _registered(self)

    def missing(self, name: str) -> BadImage:
        """The error of a file that needs the package."""
        return BadImage(f"{name} is {self.kind}: `pip install {self.package}` lets foir read it.")


def _register_heif() -> None:
    import_module("pillow_heif").register_heif_opener()


def _import_rawpy() -> None:
    import_module("rawpy")


def _register_jxl() -> None:
    import_module("pillow_jxl")


# A file whose first brand is no codec's, mif1, may be an AVIF: Pillow tries that one first.
_HEIF = re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|(mif1|msf1)(?!.{0,48}avi[fs]))", re.DOTALL)
_JXL = re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ", re.DOTALL)
EXTRAS = (
    Extra("a HEIC photo", "pillow_heif", "pillow-heif", "HEIF", _HEIF, _register_heif),
    Extra("a JPEG XL image", "pillow_jxl", "pillow-jxl-plugin", "JXL", _JXL, _register_jxl),
)
RAW = Extra("a camera's RAW file", "rawpy", "rawpy", "", _RAW, _import_rawpy)


@cache
def pillow_formats() -> tuple[str, ...]:
    """The formats that Pillow may open; plugins that are installed are registered by the first call."""
    return (*BUILT_IN, *(extra.pillow for extra in EXTRAS if extra.installed))


@cache
def _registered(extra: Extra) -> bool:
    """Whether a package could be imported and registered: one that is broken costs only its own kind of files."""
    try:
        extra.register()
    except Exception:  # whatever an import can raise
        return False
    return True


def installed_extras() -> list[str]:
    """What reads images and videos, with versions: with another one, files that were left out may be read."""
    found = []
    for package in ("pillow", *(extra.package for extra in (*EXTRAS, RAW)), "av"):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def check_readable(data: bytes, name: str) -> None:
    """Refuse a file of a known kind whose package is not installed.

    Raises:
        BadImage: The message names the package.
    """
    for extra in EXTRAS:
        if extra.signature.match(data) and not extra.installed:
            raise extra.missing(name)
    if is_raw(data, name) and not RAW.installed:
        raise RAW.missing(name)


def is_raw(data: bytes, name: str) -> bool:
    """Whether a file is a camera's RAW: most of them are TIFF files, which only their names tell."""
    suffix = name[name.rfind(".") :].lower()
    return RAW.signature.match(data) is not None or (suffix in RAW_SUFFIXES and data.startswith(_TIFF))


def raw_preview(data: bytes, name: str) -> tuple[bytes, int]:
    """The preview in a RAW file, as the bytes of an image file, and the EXIF orientation of the RAW.

    Raises:
        BadImage: The file is damaged, or has no preview.
    """
    rawpy = import_module("rawpy")
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            orientation, thumb = _FLIPS.get(raw.sizes.flip, 1), raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise BadImage(f"{name} has no preview inside: save it as a JPEG first.") from None
    except rawpy.LibRawError as error:
        raise BadImage(f"{name} is damaged, or a RAW file of an unknown kind ({type(error).__name__}).") from error
    if thumb.format == rawpy.ThumbFormat.JPEG:
        return bytes(thumb.data), orientation
    out = io.BytesIO()
    Image.fromarray(thumb.data).save(out, "PNG", compress_level=1)
    return out.getvalue(), orientation
