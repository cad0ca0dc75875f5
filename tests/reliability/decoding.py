"""How long the worst image files occupy a decoder: `python -m tests.reliability.decoding`."""

import sys
import time

from foir import decoders
from foir.app.pictures import DECODE_SECONDS, UPLOAD_BYTES, UPLOAD_PIXELS
from foir.errors import BadImage
from tests.hostile_images import HOSTILE


def measure() -> list[str]:
    """Decode hostile files as the page does; the lines tell the worst of them and what stops it."""
    decoders.read(HOSTILE["TIFF, 60,000 tags"]())  # starts a decoder
    figures = []
    for kind, make in HOSTILE.items():
        data = make()
        started = time.perf_counter()
        try:
            decoders.read(data, max_bytes=UPLOAD_BYTES, max_pixels=UPLOAD_PIXELS, deadline=DECODE_SECONDS)
            outcome = "read"
        except BadImage as error:
            outcome = str(error)
        figures.append((time.perf_counter() - started, len(data) / 1e6, kind, outcome))
    seconds, megabytes, kind, _ = max(figures, key=lambda figure: figure[0] / max(1.0, figure[1]))
    longest = max(figures)
    return [
        f"worst decode: {seconds / max(1.0, megabytes):.2f} s per MB ({kind}, {megabytes:.3f} MB, {seconds:.2f} s); "
        "a file below 1 MB counts as 1 MB",
        f"longest decode: {longest[0]:.2f} s ({longest[2]}, {longest[1]:.3f} MB); deadline {DECODE_SECONDS:g} s",
        *(f"  {kind}: {seconds:.2f} s, {megabytes:.3f} MB: {what}" for seconds, megabytes, kind, what in figures),
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure()) + "\n")
