"""Mutated image files through the reader of the page: each gives a photo or one sentence.

See tests/fuzz/__init__.py for a longer run.
"""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foir import decoders
from foir.errors import BadImage
from foir.image_formats import pillow_formats
from tests.conftest import scene
from tests.fuzz import examples
from tests.hostile_images import jpeg_of_scans, save, tiff_of_frames

small = scene(3, (60, 44))
pages = {"save_all": True, "append_images": [scene(4, (60, 44))]}
exif = Image.Exif()
exif[0x0112] = 6
FILES = {
    "jpeg": save(small, "JPEG", exif=exif, comment=b"words"),
    "progressive": save(small, "JPEG", progressive=True),
    "scans": jpeg_of_scans(40, small),
    "cmyk": save(small.convert("CMYK"), "JPEG"),
    "mpo": save(small, "MPO", **pages),
    "png": save(small, "PNG", exif=exif),
    "png palette": save(small.quantize(16), "PNG", transparency=3),
    "png 16 bit": save(small.convert("I;16"), "PNG"),
    "apng": save(small, "PNG", **pages),
    "webp": save(small, "WEBP", exif=exif),
    "webp lossless": save(small.convert("RGBA"), "WEBP", lossless=True),
    "webp frames": save(small, "WEBP", **pages),
    "gif": save(small, "GIF", **pages),
    "bmp": save(small, "BMP"),
    "bmp palette": save(small.quantize(16), "BMP"),
    "tiff": save(small, "TIFF", exif=exif),
    "tiff frames": tiff_of_frames(4),
    **{
        f"tiff {packed}": save(small, "TIFF", compression=packed)
        for packed in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    },
    "tiff fax": save(small.convert("1"), "TIFF", compression="group4"),
    "tiff float": save(small.convert("F"), "TIFF", compression="tiff_lzw"),
    "avif": save(small, "AVIF", exif=exif),
    **{kind: save(small, kind) for kind in pillow_formats() if kind in ("HEIF", "JXL")},
}
SPICE = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff\xda",
    b"\xff\xd9",
    b"\x80",
    b"\1\0",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file with some of its bytes replaced, repeated, moved, cut out or taken from another file."""
    data = bytearray(draw(st.sampled_from(list(FILES.values()))))
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.booleans())  # headers are at the beginning
        at = draw(st.integers(0, min(len(data), 120) if near else len(data)))
        length = draw(st.integers(0, 40))
        match draw(st.sampled_from(["replace", "repeat", "cut", "end", "other"])):
            case "replace":
                bytes_in = draw(st.sampled_from(SPICE) | st.binary(min_size=1, max_size=8))
                data[at : at + len(bytes_in)] = bytes_in
            case "repeat":
                data[at:at] = data[at : at + length] * draw(st.integers(1, 9))
            case "cut":
                del data[at : at + length]
            case "end" if not near:
                del data[at:]
            case "other":
                other = draw(st.sampled_from(list(FILES.values())))
                data[at:] = other[at:]
    return bytes(data)


@examples(700)
@given(mutated())
def test_every_mutated_file_gives_a_photo_or_a_sentence(data):
    try:
        photo = decoders.read(data, max_pixels=10**6, deadline=20.0)
    except BadImage as error:
        text = str(error)
        assert text.startswith("The upload ") and text.endswith(".") and ". " not in text and text.isprintable()
    else:
        assert photo.image.mode == "RGB" and 0 < photo.size[0] * photo.size[1] <= 10**6
        assert np.asarray(photo.image).shape == (photo.size[1], photo.size[0], 3)
        assert photo.alpha is None or (photo.alpha.mode, photo.alpha.size) == ("L", photo.size)
        assert photo.orientation in range(1, 9)
        photo.image.save(io.BytesIO(), "JPEG")
