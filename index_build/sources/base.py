"""The interface of image sources. A source yields its images in chunks, one for each shard of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foir.index import Object
from foir.photo_facts import PhotoFacts


@dataclass(frozen=True)
class Metadata:
    """What is known about an image beforehand. Its `objects` get the id of its item when it is indexed.

    `facts` take the place of those that its bytes say.
    """

    caption: str | None = None
    source: str | None = None
    licence: str | None = None
    objects: tuple[Object, ...] = ()
    facts: PhotoFacts | None = None


@dataclass(frozen=True)
class SourceImage:
    """An image before it is decoded.

    Attributes:
        id: The id of its item in the index.
        name: Its name in the index: a relative path, or the name of a table row.
        data: Its file, or its encoded bytes.
        metadata: What is known about it.
        time: Of a frame of a video, in seconds.
    """

    id: int
    name: str
    data: Path | bytes
    metadata: Metadata = Metadata()
    time: float | None = None


class Chunk(Protocol):
    """Consecutive images of a source: the content of one shard, and what a killed build can lose."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> Any:
        """A JSON value that changes whenever an image of the chunk changes. Computing it decodes nothing."""

    def images(self) -> Iterator[SourceImage]:
        """The images in order."""


class Source(Protocol):
    """All images of an index in a fixed order, in which their ids count up."""

    @property
    def root(self) -> Path | None:
        """The image folder that the index records, so that it can be updated; None without one."""

    @property
    def rejected(self) -> Sequence[dict[str, str]]:
        """What could not be listed: `{"file": ..., "reason": ...}`."""

    def chunks(self, size: int) -> Sequence[Chunk]:
        """The images in chunks of at most `size`.

        Raises:
            Unavailable: There are none.
        """
