"""Counting the scans of a JPEG file from its markers. A decoder goes over the whole image once for each of them."""

from __future__ import annotations

import re

# A marker that a length follows. Between two of them lie compressed pixels, where a zero follows each 0xFF, and
# markers without a length (TEM, RST).
_SEGMENT = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


def has_more_scans(data: bytes, limit: int) -> bool:
    """Whether the first image of a file is a JPEG of more than `limit` scans.

    Segments are skipped by their length, so a thumbnail in the EXIF data is not counted, nor is what follows the end of
    the image, such as the second image of an MPO file. An ordinary JPEG is read up to its only scan.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    position, scans, components, is_progressive = 2, 0, 0, False
    while scans <= limit and (match := _SEGMENT.search(data, position)):
        marker, position = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            return False
        if marker in _START_OF_FRAME:
            components, is_progressive = int.from_bytes(data[position + 7 : position + 8]), marker in _PROGRESSIVE
        if marker == _START_OF_SCAN:
            scans += 1
            if scans == 1 and not is_progressive and int.from_bytes(data[position + 2 : position + 3]) >= components:
                return False  # it holds every component, so a decoder stops behind it
        position += max(2, int.from_bytes(data[position : position + 2]))
    return scans > limit
