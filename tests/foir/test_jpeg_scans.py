"""Scans of JPEG files, counted from markers: real files, and files put together from segments."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from foir.jpeg_scans import has_more_scans
from tests.conftest import scene
from tests.hostile_images import jpeg_of_scans


def jpeg(image=None, **options):
    out = io.BytesIO()
    (image or scene(1)).save(out, "JPEG", **options)
    return out.getvalue()


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def scan(components=(1,), pixels=b"\x12\xff\x00\x34"):
    return segment(0xDA, bytes([len(components), *(x for c in components for x in (c, 0)), 0, 63, 0])) + pixels


def frame(marker=0xC2, components=3):
    return segment(marker, struct.pack(">BHHB", 8, 8, 8, components) + bytes(3 * components))


def made(*parts, end=b"\xff\xd9"):
    return b"\xff\xd8" + b"".join(parts) + end


def count(data):
    return next(limit for limit in range(300) if not has_more_scans(data, limit))


def test_scans_that_encoders_write():
    assert count(jpeg(progressive=True)) == 10
    assert count(jpeg(scene(1).convert("L"), progressive=True)) == 6
    assert count(jpeg()) == count(jpeg(scene(1).convert("CMYK"))) == 0  # the only scan is not counted
    assert not has_more_scans(
        jpeg(Image.effect_noise((900, 900), 90).convert("RGB"), quality=100, progressive=True), 10
    )


def test_repeated_scans_are_counted():
    assert count(jpeg_of_scans(150)) == 150
    assert has_more_scans(jpeg_of_scans(101), 100) and not has_more_scans(jpeg_of_scans(100), 100)


def test_scans_of_other_images_in_the_file_are_not_counted():
    bomb = jpeg_of_scans(150, scene(1, (40, 40)))
    assert count(jpeg(progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bomb)) == 10
    assert count(jpeg(progressive=True) + bomb) == 10
    pages = io.BytesIO()
    scene(1).save(pages, "MPO", save_all=True, append_images=[scene(2)] * 20, progressive=True)
    assert count(pages.getvalue()) == 10


def test_markers_inside_compressed_pixels_count_as_a_decoder_sees_them():
    stuffed = scan(pixels=b"\xff\x00\xda\xff\xff\x00\xda\xff\xd0\xff\xd7\xff\x01\xda")
    assert count(made(frame(), stuffed, scan())) == 2
    assert count(made(frame(), scan(), b"\xff\xff\xff" + scan()[1:], scan())) == 3  # fill bytes
    assert count(made(frame(), scan(), segment(0xC4, b"\xff\xda" * 20), scan())) == 2


def test_a_sequential_jpeg_counts_where_its_first_scan_holds_only_a_part():
    assert count(made(frame(0xC0), *[scan()] * 120)) == 120
    assert count(made(frame(0xC0), scan((1, 2, 3)), *[scan()] * 120)) == 0
    assert count(made(frame(0xC9), *[scan()] * 120)) == 120  # arithmetic coding


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", made(end=b"\xff"), made(frame(), end=b"\xff\xda"), b"words"])
def test_files_that_end_early_end_the_count(data):
    assert count(data) <= 1
    for length in range(0, 400, 7):
        count(jpeg_of_scans(12)[:length])


def test_a_segment_without_length_does_not_hang():
    assert count(made(frame(), *[b"\xff\xda\x00\x00"] * 99)) == 99
    assert has_more_scans(made(frame(), *[b"\xff\xda\x00\x00"] * 10**5), 100)


def test_random_bytes_end_the_count():
    random = np.random.default_rng(2)
    for _ in range(200):
        count(b"\xff\xd8\xff" + random.choice([0, 2, 0xC2, 0xD8, 0xDA, 0xFF], 300).astype(np.uint8).tobytes())
