"""A camera's RAW file, made here: a DNG with a JPEG preview and raw values."""

import io
import struct

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED = 1, 2, 3, 4, 5, 10
SIDE = 64  # of the raw values


def dng(preview: Image.Image, orientation: int) -> bytes:
    """A DNG of raw values that show nothing, whose preview is an image as the sensor saw it."""
    jpeg = io.BytesIO()
    preview.save(jpeg, "JPEG", quality=95)
    data, parts = bytearray(b"II*\0\0\0\0\0"), []

    def put(values: bytes) -> int:
        place = len(data)
        data.extend(values + bytes(len(values) % 2))
        return place

    def directory(entries: list[tuple[int, int, int, bytes]]) -> int:
        packed = []
        for tag, kind, count, values in sorted(entries):
            inline = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack("<I", put(values))
            packed.append(struct.pack("<HHI", tag, kind, count) + inline)
        return put(struct.pack("<H", len(packed)) + b"".join(packed) + bytes(4))

    def shorts(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}H", *values)

    def longs(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}I", *values)

    def text(tag: int, value: str) -> tuple[int, int, int, bytes]:
        return tag, ASCII, len(value) + 1, value.encode() + b"\0"

    raw = directory(
        [
            (254, LONG, 1, longs(0)), (256, LONG, 1, longs(SIDE)), (257, LONG, 1, longs(SIDE)),
            (258, SHORT, 1, shorts(16)), (259, SHORT, 1, shorts(1)), (262, SHORT, 1, shorts(32803)),
            (273, LONG, 1, longs(put(shorts(*range(SIDE * SIDE))))), (277, SHORT, 1, shorts(1)),
            (278, LONG, 1, longs(SIDE)), (279, LONG, 1, longs(2 * SIDE * SIDE)),
            (33421, SHORT, 2, shorts(2, 2)), (33422, BYTE, 4, bytes([0, 1, 1, 2])),
            (50717, LONG, 1, longs(4095)),
        ]
    )  # fmt: skip
    exif = directory([text(0x9003, "2024:07:03 12:34:56")])
    parts = [
        (254, LONG, 1, longs(1)), (256, LONG, 1, longs(preview.width)), (257, LONG, 1, longs(preview.height)),
        (258, SHORT, 3, shorts(8, 8, 8)), (259, SHORT, 1, shorts(7)), (262, SHORT, 1, shorts(6)),
        text(271, "Maker"), text(272, "Model"), (273, LONG, 1, longs(put(jpeg.getvalue()))),
        (274, SHORT, 1, shorts(orientation)), (277, SHORT, 1, shorts(3)), (278, LONG, 1, longs(preview.height)),
        (279, LONG, 1, longs(len(jpeg.getvalue()))), (330, LONG, 1, longs(raw)), (34665, LONG, 1, longs(exif)),
        (50706, BYTE, 4, bytes([1, 4, 0, 0])), (50707, BYTE, 4, bytes([1, 1, 0, 0])), text(50708, "Maker Model"),
        (50721, SIGNED, 9, struct.pack("<18i", *[1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1])),
        (50728, RATIONAL, 3, longs(1, 1, 1, 1, 1, 1)), (50778, SHORT, 1, shorts(21)),
    ]  # fmt: skip
    data[4:8] = longs(directory(parts))
    return bytes(data)
