"""A process that decodes images for `foir.decoders`, and ends with its parent.

It imports NumPy and Pillow alone, and what reads a file of another kind when one comes.

A request on standard input is a line of JSON and the bytes of an image file, or names a video and perhaps a time. The
answer on standard output is a line of JSON and the pixels: RGB, then the alpha channel where there is one; or the times
of a video's frames.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from foir import images, videos
from foir.child_process import limit_memory
from foir.errors import BadImage

MEMORY = 3 * 2**30  # bytes of addresses; an image of 80 million pixels takes up to 2.3 GB
STRIP_PIXELS = 2**16


def main() -> None:
    """Answer requests until standard input is closed, as it is when the parent ends, however it ends."""
    limit_memory(MEMORY)
    requests = sys.stdin.buffer
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
        answers.write(b"\n")  # ready
        answers.flush()
        while line := requests.readline():
            request = json.loads(line)
            data = requests.read(request["bytes"])
            # The parent ends this process at its deadline; this ends it where there is no parent any more.
            faulthandler.dump_traceback_later(request["seconds"], exit=True)
            head, planes = answer(data, request)
            faulthandler.cancel_dump_traceback_later()
            answers.write(json.dumps(head).encode() + b"\n")
            for image, raw_mode in planes:
                for strip in strips(image):
                    answers.write(strip.tobytes("raw", raw_mode))
            answers.flush()


def answer(data: bytes, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Image.Image, str]]]:
    """The answer to one request: its line as a dictionary, and the images to send with the layouts of their bytes."""
    limit, video = request["max_pixels"], request["video"]
    try:
        if video is None:
            photo = images.decode(data, request["name"], limit, request["min_side"])
        elif request["time"] is None:
            return {"times": videos.find_times(Path(video))}, []
        else:
            photo = videos.read_frame(Path(video), request["time"], limit)
    except BadImage as error:
        return {"error": str(error)}, []
    head = {
        "size": photo.size,
        "full_size": photo.full_size,
        "orientation": photo.orientation,
        "notes": photo.notes,
        "alpha": False,
        "facts": asdict(photo.facts),
    }
    planes = [(photo.image, "RGBX")]  # as Pillow keeps RGB, so the parent copies nothing
    if photo.alpha is not None:
        head["alpha"] = True
        planes.append((photo.alpha, "L"))
    return head, planes


def strips(image: Image.Image) -> Iterator[Image.Image]:
    """An image in strips of rows, so that its bytes are never in memory as a whole: fresh pages cost most of a copy."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))
