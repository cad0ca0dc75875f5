"""The patches of pictures that were shown lately, for heat maps: several missing ones are encoded at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from foir import images
from foir.errors import BadImage, BadIndex
from foir.index import Item
from foir.index.protocol import IndexLike

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from foir.encoders.base import Encoder

MOST = 256


class PatchCache:
    """Unit vectors of the patches of an index's thumbnails, by picture. Safe to share between threads."""

    def __init__(self, index: IndexLike) -> None:
        """Remember nothing yet."""
        self._index, self._lock = index, Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def get(self, encoder: Encoder, items: Sequence[Item]) -> list[np.ndarray | None]:
        """Each picture's patches, [rows * cols, d]; None where its thumbnail is damaged."""
        with self._lock:
            found = {item.id: self._kept[item.id] for item in items if item.id in self._kept}
        pictures = {item.id: self._pixels(item) for item in items if item.id not in found}
        missing = [(id, picture) for id, picture in pictures.items() if picture is not None]
        if missing:
            made = (
                encoder.patch_features(encoder.prefix(encoder.pixels([picture for _, picture in missing])))
                .cpu()
                .numpy()
            )
            found |= {id: each.copy() for (id, _), each in zip(missing, made, strict=True)}
        with self._lock:
            for id, each in found.items():
                self._kept[id] = each
                self._kept.move_to_end(id)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return [found.get(item.id) for item in items]

    def _pixels(self, item: Item) -> Image.Image | None:
        try:
            return images.read(self._index.thumb(item)).image
        except (BadIndex, BadImage):
            return None
