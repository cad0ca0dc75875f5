"""The interface of executors. An executor decodes and encodes chunks of images, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from foir.index import Item, Object

from .decoding import DecodedImage, RejectedImage
from .encoding import EncodedBatch, EncoderRecord, SpaceEncoders
from .sources import Chunk

BATCH_SIZE = 16  # larger ones are slower on a CPU: their tensors no longer come from the allocator's pool


@dataclass(frozen=True, eq=False)
class Batch:
    """`BATCH_SIZE` consecutive images of a chunk, fewer at its end.

    Attributes:
        items: The readable images.
        objects: Their known objects.
        rejected: The unreadable images.
        features: One row for each item; None without items.
    """

    items: tuple[Item, ...]
    objects: tuple[Object, ...]
    rejected: tuple[RejectedImage, ...]
    features: EncodedBatch | None


class Executor(Protocol):
    """Turns chunks of images into batches, here or on other machines."""

    @property
    def records(self) -> Mapping[str, EncoderRecord]:
        """What the index records about the encoder of each space."""

    @property
    def region_recipe(self) -> str:
        """How regions are made; "" where none are."""

    def run(self, chunks: Sequence[Chunk]) -> Iterator[Iterable[Batch]]:
        """The batches of each chunk, chunk after chunk. A chunk must be consumed before the next one.

        Raises:
            Unavailable: A source or a worker cannot go on.
        """


def enough_pixels(encoders: SpaceEncoders, thumb_side: int) -> int:
    """Pixels of an image's shorter side that its encoders and its thumbnail need; 0 for all (`foir.decoders.read`)."""
    return encoders.min_side and max(encoders.min_side, thumb_side)


def group_batches(images: Iterator[DecodedImage | RejectedImage]) -> Iterator[list[DecodedImage | RejectedImage]]:
    """Groups of `BATCH_SIZE`. Unreadable images count, so that batches do not depend on who decodes them."""
    while group := list(islice(images, BATCH_SIZE)):
        yield group


def encode_batch(images: Sequence[DecodedImage | RejectedImage], encoders: SpaceEncoders) -> Batch:
    """Encode the readable images of a group."""
    decoded = [image for image in images if isinstance(image, DecodedImage)]
    return Batch(
        tuple(image.item for image in decoded),
        tuple(replace(known, item=image.item.id) for image in decoded for known in image.objects),
        tuple(image for image in images if isinstance(image, RejectedImage)),
        encoders.encode([image.inputs for image in decoded]) if decoded else None,
    )
