"""Cache of the patch features of recent results, for heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from PIL import Image

from foir import decoders
from foir.errors import BadImage, BadIndex
from foir.index import Item
from foir.index.protocol import IndexLike

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

MAX_IMAGES = 256


class PatchCache:
    """Patch features of an index's thumbnails, the most recently used ones. Thread-safe."""

    def __init__(self, index: IndexLike) -> None:
        """Start empty."""
        self._index, self._lock = index, Lock()
        self._features: LRUCache[int, np.ndarray] = LRUCache(MAX_IMAGES)

    def get(self, encoder: Encoder, items: Sequence[Item]) -> list[np.ndarray | None]:
        """Return the patch features of each item, computing those that are missing in one batch.

        Returns:
            For each item its unit vectors, [rows * cols, d], or None where the thumbnail is damaged.
        """
        with self._lock:
            features = {item.id: self._features[item.id] for item in items if item.id in self._features}
        thumbnails = {item.id: self._thumbnail(item) for item in items if item.id not in features}
        missing = {id: thumbnail for id, thumbnail in thumbnails.items() if thumbnail is not None}
        if missing:
            batch = encoder.patch_features(encoder.prefix(encoder.pixels(list(missing.values())))).cpu().numpy()
            features |= {id: patches.copy() for id, patches in zip(missing, batch, strict=True)}
        with self._lock:
            self._features.update(features)
        return [features.get(item.id) for item in items]

    def _thumbnail(self, item: Item) -> Image.Image | None:
        try:
            return decoders.read(self._index.thumb(item)).image
        except (BadIndex, BadImage):
            return None
