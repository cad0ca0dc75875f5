"""The region vectors of an index in Milvus: a collection of their own, one row a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from foir.errors import BadIndex
from foir.index.format import BOX
from foir.index.manifest import Manifest
from foir.index.milvus_client import MAX_RESULTS, Collection
from foir.index.records import Regions

ITEM, VECTOR = "item", "vector"  # fields beside the primary key and the box
ROWS_PER_IMAGE = 4  # regions asked for at first for each image that is wanted, and how much more at every next try
REQUEST_ROWS = 8000  # regions read at once, about


class RegionRows:
    """The region rows of an index. Safe to share between threads."""

    def __init__(self, collection: Collection, manifest: Manifest) -> None:
        """Bind a collection.

        Raises:
            BadIndex: It is gone, or has another number of rows than the manifest says.
            Unavailable: Milvus does not answer.
        """
        self._collection, self._count = collection, manifest.region_count
        self._images_at_once = max(1, REQUEST_ROWS * manifest.count // max(1, self._count))
        if collection.count() != self._count:
            raise BadIndex(f"The Milvus collection {collection.name} lacks regions: build the index again.")

    def near(self, vectors: np.ndarray, count: int, keep: Callable[[list[int]], list[int]]) -> list[int]:
        """Ids of the images whose best regions are nearest to one thing, the nearest first.

        Args:
            vectors: Unit vectors of the thing, of which the best counts, float32 [n, dim].
            count: Number of images; there are fewer where `MAX_RESULTS` regions lie on fewer.
            keep: Those of some ids that may be results.
        """
        limit = most = min(MAX_RESULTS, self._count)
        limit = min(limit, ROWS_PER_IMAGE * count)
        while True:
            hits = self._collection.search(VECTOR, list(vectors), limit, fields=[ITEM])
            ids = keep(list(dict.fromkeys(int(hit["entity"][ITEM]) for hit in hits)))
            if len(ids) >= count or limit == most:
                return ids[:count]
            limit = min(most, ROWS_PER_IMAGE * limit)

    def of(self, ids: Sequence[int], recipe: str) -> Regions:
        """All regions of some images, in memory.

        Args:
            ids: Ascending, at least one.
            recipe: How they were made.

        Raises:
            BadIndex: An image has none.
        """
        rows = []
        for start in range(0, len(ids), self._images_at_once):
            some = list(ids[start : start + self._images_at_once])
            rows += self._collection.query(["id", ITEM, VECTOR, *BOX], filter=f"{ITEM} in {some}")
        rows.sort(key=lambda row: int(row["id"]))
        rows.sort(key=lambda row: int(row[ITEM]))
        starts = np.searchsorted([row[ITEM] for row in rows], [*ids, ids[-1] + 1]).astype(np.int32)
        if not (np.diff(starts) > 0).all():
            raise BadIndex(f"The Milvus collection {self._collection.name} lacks regions: build the index again.")
        vectors = np.array([row[VECTOR] for row in rows], np.float16)
        boxes = np.array([[row[corner] for corner in BOX] for row in rows], np.uint16)
        return Regions(recipe, (vectors,), (boxes,), (starts,))
