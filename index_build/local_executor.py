"""Decoding in threads and encoding in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from foir import images
from foir.index import writer

from .decoding import decode_images
from .encoding import SpaceEncoders
from .executor import Batch, encode_batch, enough_pixels, group_batches
from .sources import Chunk


class LocalExecutor:
    """The executor of one machine; see `Executor`."""

    def __init__(self, encoders: SpaceEncoders, out: Path, thumb_side: int) -> None:
        """Take the encoders.

        Args:
            encoders: Of all spaces.
            out: The index, where thumbnails are written.
            thumb_side: Longer side of the thumbnails in pixels.
        """
        self.encoders, self.records, self.region_recipe = encoders, encoders.records, encoders.region_recipe
        self.out, self.thumb_side = out, thumb_side

    def run(self, chunks: Sequence[Chunk]) -> Iterator[Iterable[Batch]]:
        """The batches of each chunk; see `Executor.run`."""
        return map(self._encode, chunks)

    def _encode(self, chunk: Chunk) -> Iterator[Batch]:
        min_side = enough_pixels(self.encoders, self.thumb_side)
        decoded = decode_images(chunk.images(), self.encoders.preprocess, self._write_thumbnail, min_side=min_side)
        for group in group_batches(decoded):
            yield encode_batch(group, self.encoders)

    def _write_thumbnail(self, image: Image.Image) -> str:
        return writer.write_thumb(self.out, images.thumbnail(image, self.thumb_side))
