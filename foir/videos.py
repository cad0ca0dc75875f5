"""Frames of videos: which stand for a video, and how a frame is named.

PyAV (extra `video`) decodes, in the processes of `foir.decoders` alone: containers and codecs come from strangers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from foir.errors import BadImage
from foir.images import Photo
from foir.photo_facts import PhotoFacts

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "mp4 m4v mov avi mkv webm mts m2ts mpg mpeg 3gp".split()  # noqa: SIM905
)
# Containers that hold their frames themselves: a playlist could name any other file.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
MIN_SECONDS, MAX_SECONDS, MAX_FRAMES = 1.0, 10.0, 1000  # between two frames of a video, and frames of one
SAME_SCENE, SIDE = 0.9, 24  # correlation of small frames of one scene, and their side in pixels
_KEY = re.compile(r"(.+)#t=(\d+\.\d{3})", re.DOTALL)  # as in a media fragment's address


def frame_key(file: str, time: float | None) -> str:
    """What names an image in its folder: its file, and of a frame also the time in seconds."""
    return file if time is None else f"{file}#t={time:.3f}"


def split_key(key: str) -> tuple[str, float | None]:
    """File and time of a key; see `frame_key`."""
    match = _KEY.fullmatch(key)
    if match is None or Path(match[1]).suffix.lower() not in VIDEO_SUFFIXES:
        return key, None
    return match[1], float(match[2])


def check_readable(name: str) -> None:
    """Refuse videos where PyAV is not installed.

    Raises:
        BadImage: It is not.
    """
    if find_spec("av") is None:
        raise BadImage(f"{name} is a video: `pip install av` lets foir read it.")


def find_times(path: Path) -> list[float]:
    """Times in seconds of the frames that stand for a video: those of a new scene, and one every ten seconds.

    Only frames that need no other are looked at; encoders of videos begin a scene with one.

    Raises:
        BadImage: It cannot be read, or shows nothing.
    """
    times: list[float] = []
    kept: np.ndarray | None = None
    with _opened(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        for frame in container.decode(stream):
            time = round(float(frame.time or 0), 3)
            if times and time - times[-1] < MIN_SECONDS:
                continue
            small = _small(frame)
            if kept is None or float(small @ kept) < SAME_SCENE or time - times[-1] >= MAX_SECONDS:
                times.append(time)
                kept = small
            if len(times) == MAX_FRAMES:
                break
    if not times:
        raise BadImage(f"{path.name} has no frame that can be shown.")
    return times


def read_frame(path: Path, time: float, max_pixels: int) -> Photo:
    """The frame of a video at a time in seconds.

    Raises:
        BadImage: It cannot be read, has no such frame, or is too large.
    """
    with _opened(path) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > max_pixels:
            limit = f"{max_pixels / 1e6:.0f} million"
            raise BadImage(f"{path.name} has frames of {width} x {height} pixels; the limit is {limit}.")
        if time:
            container.seek(int(time / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if float(frame.time or 0) >= time - 0.0006:
                image = frame.to_image()
                turned = image.rotate(frame.rotation, expand=True) if getattr(frame, "rotation", 0) else image
                return Photo(turned, facts=_facts(container, time))
    raise BadImage(f"{path.name} has no frame at {time:g} seconds any more.")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video's container and its stream of frames."""
    check_readable(path.name)
    av = import_module("av")
    try:
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        with av.open(str(path), options=options) as container:
            if not container.streams.video:
                raise BadImage(f"{path.name} has no frames.")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            yield container, stream
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # FFmpeg's errors, and nearly anything on damaged bytes
        raise BadImage(f"{path.name} is damaged, or no video foir can read ({type(error).__name__}).") from error


def _small(frame: Any) -> np.ndarray:
    values = frame.reformat(width=SIDE, height=SIDE, format="rgb24").to_ndarray().astype(np.float32).ravel()
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6))


def _facts(container: Any, time: float) -> PhotoFacts:
    """When a frame was taken, by this computer's clock: containers say it in UTC."""
    try:
        started = datetime.strptime(container.metadata["creation_time"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        offset = started.astimezone().utcoffset() or timedelta()
    except (KeyError, ValueError, OverflowError, OSError):
        return PhotoFacts()
    if started.year < 1980:  # 1904 and 1970 are what clocks that were never set say
        return PhotoFacts()
    taken = int(started.timestamp() + offset.total_seconds() + time)
    return PhotoFacts(taken=taken, taken_offset=int(offset.total_seconds()) // 60)
