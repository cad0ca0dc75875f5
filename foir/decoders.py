"""Decoding images in processes of their own, each with a deadline and a limit of memory, for servers and builds.

A thread cannot be stopped inside a C library, and a crash there ends the whole process. A decoder is ended for real,
and the next image gets a new one. Its answers are lengths and pixels, never objects, so a decoder that a crafted file
took over cannot reach further. Processes are started by command line, not forked or spawned by `multiprocessing`:
they neither copy threads nor import the caller's script.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Event, Timer
from typing import IO, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from foir import images, videos
from foir.child_process import python_command
from foir.errors import BadImage, Unavailable
from foir.images import MAX_BYTES, MAX_PIXELS, Photo
from foir.photo_facts import PhotoFacts

DEADLINE = 60.0  # seconds for one image; the slowest honest ones take about ten on a busy machine
START_DEADLINE = 60.0  # seconds until a new process is ready, on a machine that is busy
MAX_DECODERS = max(4, os.cpu_count() or 1)
MAX_LINE = 100_000  # bytes
NONSENSE = "makes the decoder answer nonsense, so it cannot be read."
VIDEO_DEADLINE = 600.0  # seconds to look through one video
REQUEST = {"max_pixels": MAX_PIXELS, "min_side": 0, "video": None, "time": None}  # where a request says nothing else
# Threads of a library that needs none would take memory. The allocator of Linux keeps up to 128 MiB for the next image:
# fresh pages would take half of the time of decoding.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
}
_COMMAND = "from foir.decoder_process import main; main()"


def read(
    source: Path | str | bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS, deadline: float = DEADLINE,
    min_side: int = 0, name: str | None = None,
) -> Photo:  # fmt: skip
    """Decode one image as `foir.images.read` does, but in another process.

    Args:
        source: A path, or the bytes of an image file.
        max_bytes: Larger files are refused before they are read.
        max_pixels: Larger images are refused before they are decoded.
        deadline: Seconds that decoding may take; also how long to wait for one of the `MAX_DECODERS` processes.
        min_side: Pixels that the shorter side needs; a larger JPEG may come at a half, quarter or eighth of its size,
            several times as fast. 0 for all of them.
        name: Of a file that is given by its bytes: most RAW files are known by their suffix alone.

    Raises:
        BadImage: See `foir.images.read`; also where decoding takes too long or ends its process.
        Unavailable: All processes are busy, or none can be started.
    """
    kind, data = images.fetch(source, max_bytes)
    name = name if name and isinstance(source, bytes) else kind
    request = {"name": name, "max_pixels": max_pixels, "min_side": min_side}
    return replace(_photo(data, request, deadline), content=hashlib.sha256(data).hexdigest())


def read_frame(path: Path, time: float, *, deadline: float = DEADLINE) -> Photo:
    """Decode the frame of a video at a time in seconds; see `read` and `foir.videos`."""
    return _photo(b"", {"name": path.name, "video": str(path.resolve()), "time": time}, deadline)


def frame_times(path: Path, *, deadline: float = VIDEO_DEADLINE) -> list[float]:
    """Times in seconds of the frames that stand for a video; see `read` and `foir.videos`."""
    videos.check_readable(path.name)
    times = _pool.decode(b"", {"name": path.name, "video": str(path.resolve())}, deadline)
    if isinstance(times, Photo):
        raise BadImage(f"{path.name} {NONSENSE}")
    return times


def _photo(data: bytes, request: Mapping[str, Any], deadline: float) -> Photo:
    photo = _pool.decode(data, request, deadline)
    if not isinstance(photo, Photo):
        raise BadImage(f"{request['name']} {NONSENSE}")
    return photo


class DecoderPool:
    """At most so many decoders, each started when one is needed and no other is free. Thread-safe."""

    def __init__(self, size: int) -> None:
        """Start nothing yet."""
        self._size = size
        self.forget()

    def forget(self) -> None:
        """Leave the decoders to the process that this one was forked from."""
        self._free: LifoQueue[_Decoder | None] = LifoQueue()  # None: one that is not started
        for _ in range(self._size):
            self._free.put(None)

    def decode(self, data: bytes, request: Mapping[str, Any], deadline: float) -> Photo | list[float]:
        """Decode the bytes of an image file, or what the request names; see `_Decoder.decode`."""
        try:
            decoder = self._free.get(timeout=deadline)
        except Empty:
            raise Unavailable("Too many images are opened at this moment: try again soon.") from None
        try:
            if decoder is None or not decoder.is_ready:
                decoder = None
                decoder = _Decoder()
            return decoder.decode(data, request, deadline)
        finally:
            if decoder is not None and not decoder.is_ready:
                decoder.end()
                decoder = None
            self._free.put(decoder)

    def close(self) -> None:
        """End the decoders that are free."""
        for decoder in [self._free.get() for _ in range(self._free.qsize())]:
            if decoder is not None:
                decoder.end()
            self._free.put(None)


class _Decoder:
    """A process that decodes one image after the other."""

    def __init__(self) -> None:
        """Start the process and wait until it is ready."""
        self._is_idle = False
        command = python_command(_COMMAND)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # Ctrl-C is for the parent
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise Unavailable(f"No process can be started to decode images: {error.strerror or error}.") from error
        self._requests: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        self._answers: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        with self._limited(START_DEADLINE):
            self._is_idle = self._answers.readline(1) == b"\n"
        if not self._is_idle:
            self.end()
            raise Unavailable(f"A process that decodes images ended as it started: {sys.executable} imports no Pillow.")

    @property
    def is_ready(self) -> bool:
        """Whether the process waits for a request."""
        return self._is_idle and self._process.poll() is None

    def decode(self, data: bytes, request: Mapping[str, Any], deadline: float) -> Photo | list[float]:
        """Decode the bytes of an image file; the process is not ready afterwards where it did not answer.

        Args:
            data: The bytes; none of a video.
            request: `name` in messages, and other fields than those of `REQUEST`.
            deadline: Seconds that it may take.
        """
        self._is_idle = False
        request = {**REQUEST, **request, "bytes": len(data), "seconds": 2 * deadline}
        name, max_pixels = request["name"], request["max_pixels"]
        answer: Photo | list[float] | BadImage | None = None
        with self._limited(deadline) as expired, suppress(Exception):  # the process ended, or its answer is none
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.write(data)
            self._requests.flush()
            answer = self._receive(max_pixels)
        self._is_idle = answer is not None and not expired.is_set()
        if isinstance(answer, Photo | list):
            return answer
        if answer is None and expired.is_set():
            answer = BadImage(f"{name} takes more than {deadline:g} seconds to decode: save it in a simpler form.")
        raise answer or BadImage(f"{name} makes the decoder crash, so it cannot be read.")

    def _receive(self, max_pixels: int) -> Photo | list[float] | BadImage:
        head: dict[str, Any] = json.loads(self._answers.readline(MAX_LINE))
        if "error" in head:
            return BadImage(str(head["error"]))
        if "times" in head:
            return sorted({round(abs(float(time)), 3) for time in head["times"]})
        width, height = _size(head["size"], max_pixels)
        full_size = None if head["full_size"] is None else _size(head["full_size"], max_pixels)
        image = self._receive_plane("RGB", 4, (width, height))
        alpha = self._receive_plane("L", 1, (width, height)) if head["alpha"] else None
        facts = PhotoFacts.from_json(head["facts"])
        return Photo(image, int(head["orientation"]), tuple(map(str, head["notes"])), alpha, None, full_size, facts)

    def _receive_plane(self, mode: str, channels: int, size: tuple[int, int]) -> Image.Image:
        """An image that lies in the bytes that were received: Pillow keeps four of them for an RGB pixel."""
        pixels = np.empty(channels * size[0] * size[1], np.uint8)
        if self._answers.readinto(pixels) != len(pixels):  # type: ignore[attr-defined]
            raise ValueError("the process ended")
        values = pa.Array.from_buffers(pa.uint8(), len(pixels), [None, pa.py_buffer(pixels)])
        return Image.fromarrow(values if channels == 1 else pa.FixedSizeListArray.from_arrays(values, 4), mode, size)

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[Event]:
        """End the process after so many seconds, which ends whatever waits for it, and set the event."""
        expired = Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()
            timer.join()

    def end(self) -> None:
        """End the process now."""
        self._process.kill()
        for pipe in (self._requests, self._answers):
            with suppress(OSError):
                pipe.close()
        self._process.wait()


def _size(value: Any, max_pixels: int) -> tuple[int, int]:
    """Width and height as a process says them, which a crafted file may have taken over."""
    width, height = map(int, value)
    if min(width, height) < 1 or width * height > max_pixels:
        raise ValueError(value)
    return width, height


_pool = DecoderPool(MAX_DECODERS)
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):  # two processes cannot share the pipes of a decoder
    os.register_at_fork(after_in_child=_pool.forget)
