"""Image files that cost a decoder far more than their size tells: small files, valid or nearly so."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

SIDE = 4800  # 23 million pixels, what the page still takes


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg_of_scans(count: int, image: Image.Image | None = None) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many; encoders write 10 for a colour image."""
    data = save(image or Image.linear_gradient("L").convert("RGB"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - 10) + data[-2:]


def empty_scans(count: int, side: int) -> bytes:
    """A grey progressive JPEG with so many scans beside its six that hold no pixels: each goes over the whole image."""
    data = save(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last : last + 10] * count + data[-2:]


def tiff_of_frames(count: int) -> bytes:
    """A TIFF whose directories, of one pixel each, form a chain."""
    entries = ((256, 3, 1), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 1), (279, 4, 1))
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    size, out = 6 + len(body), bytearray(b"II*\0" + struct.pack("<I", 12) + bytes(4))
    for number in range(count):
        following = 12 + size * (number + 1) if number + 1 < count else 0
        out += struct.pack("<H", len(entries)) + body + struct.pack("<I", following)
    return bytes(out)


def tiff_of_tags(count: int) -> bytes:
    """A TIFF with so many entries in its one directory."""
    data = tiff_of_frames(1)
    entry = struct.pack("<HHII", 65000, 7, 4, 0)
    return data[:12] + struct.pack("<H", 8 + count) + data[14:-4] + entry * count + bytes(4)


def tiff_of_strips(count: int) -> bytes:
    """A TIFF one pixel wide, each row of which is a strip of its own."""
    start = 14 + 12 * 8 + 4
    entries = (
        (256, 3, 1, 1),
        (257, 4, 1, count),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, count, start),
        (278, 3, 1, 1),
        (279, 4, count, start + 4 * count),
    )
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory = b"II*\0" + struct.pack("<IIH", 12, 0, len(entries)) + body + bytes(4)
    return directory + struct.pack("<I", 8) * count + struct.pack("<I", 1) * count


def gif_of_frames(count: int) -> bytes:
    """A GIF of so many frames of one pixel."""
    one = save(Image.new("L", (1, 1)), "GIF")
    frame = one[one.index(b",", 13) : -1]
    return one[:-1] + frame * (count - 1) + b";"


def gif_of_small_blocks(side: int) -> bytes:
    """A GIF of one frame whose compressed pixels come one byte a block."""
    data = save(Image.effect_noise((side, side), 90).convert("P"), "GIF")
    start = data.index(b",", 13 + 768) + 10
    packed, at = bytearray(), start + 1
    while data[at]:
        packed += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return data[: start + 1] + b"".join(b"\1" + bytes([byte]) for byte in packed) + b"\0;"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, chunks: Iterable[bytes], *, colour: int = 2, interlaced: bool = False) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, int(interlaced)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def flat_png(side: int, *, interlaced: bool = False) -> bytes:
    """A PNG of one colour, a thousand times smaller than its pixels."""
    lines = zlib.compress(bytes((3 * side + 1) * side + (16 * side if interlaced else 0)), 9)
    return png(side, side, [chunk(b"IDAT", lines)], interlaced=interlaced)


def png_of_chunks(count: int) -> bytes:
    """A PNG with so many empty chunks before its pixels."""
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    return png(1, 1, [chunk(b"tEXt", b"a\0b")] * count + [pixels])


def webp_of_frames(count: int, side: int) -> bytes:
    pages = [Image.new("RGB", (side, side), (i % 256, 0, 0)) for i in range(count)]
    return save(pages[0], "WEBP", save_all=True, append_images=pages[1:], lossless=True, method=0)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG, 100 scans": lambda: jpeg_of_scans(100, Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")),
    "JPEG, 100 empty scans": lambda: empty_scans(94, SIDE),
    "JPEG, 20,000 empty scans": lambda: empty_scans(20_000, SIDE),
    "JPEG, CMYK at the cap": lambda: save(Image.new("CMYK", (SIDE, SIDE), (9, 8, 7, 6)), "JPEG"),
    "TIFF, 40,000 frames": lambda: tiff_of_frames(40_000),
    "TIFF, 60,000 tags": lambda: tiff_of_tags(60_000),
    "TIFF, 2,400,000 strips": lambda: tiff_of_strips(2_400_000),
    "TIFF, LZW bomb": lambda: save(Image.new("RGB", (SIDE, SIDE)), "TIFF", compression="tiff_lzw"),
    "TIFF, deflate bomb": lambda: save(Image.new("RGB", (SIDE, SIDE)), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, float bomb": lambda: save(Image.new("F", (SIDE, SIDE), 0.5), "TIFF", compression="tiff_lzw"),
    "TIFF, fax bomb": lambda: save(Image.new("1", (SIDE, SIDE)), "TIFF", compression="group4"),
    "PNG, deflate bomb": lambda: flat_png(SIDE),
    "PNG, interlaced": lambda: flat_png(SIDE, interlaced=True),
    "PNG, 1,300,000 chunks": lambda: png_of_chunks(1_300_000),
    "PNG, transparent palette": lambda: save(Image.new("P", (SIDE, SIDE)), "PNG", transparency=0),
    "GIF, bomb": lambda: save(Image.new("P", (SIDE, SIDE)), "GIF"),
    "GIF, 200,000 frames": lambda: gif_of_frames(200_000),
    "GIF, blocks of one byte": lambda: gif_of_small_blocks(1200),
    "WEBP, lossless bomb": lambda: save(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 4)), "WEBP", lossless=True, method=0),
    "WEBP, 300 frames": lambda: webp_of_frames(300, 400),
    "BMP, run-length bomb": lambda: rle_bmp(SIDE),
}


def rle_bmp(side: int) -> bytes:
    """A BMP whose rows are runs."""
    row = b"\xff\x07" * (side // 255) + bytes([side % 255 or 1, 7]) + b"\0\0"
    body = row * side + b"\0\1"
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body
