"""What a search needs of an index, whether its rows are in files (`Index`) or in a database (`MilvusIndex`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from foir.index.manifest import Manifest
from foir.index.records import Background, Facets, Item, Object, Regions, Space

if TYPE_CHECKING:
    from foir.index.reader import Index


@runtime_checkable
class IndexLike(Protocol):
    """An index to search."""

    folder: Path
    manifest: Manifest
    spaces: Mapping[str, Space]
    regions: Regions | None
    background: Background | None  # the standard of scores, where a database holds the rows

    def __len__(self) -> int: ...

    def facets(self) -> Facets:
        """What its images can be narrowed to."""

    def space(self, name: str = "image") -> Space:
        """A space by name; only an index in files holds its vectors there.

        Raises:
            BadIndex: The index does not have it.
        """

    def get(self, id: int) -> Item:
        """The image of an id.

        Raises:
            BadIndex: There is none.
        """

    def sample(self, count: int) -> list[Item]:
        """About `count` images, evenly over the index; all where it has fewer."""

    def objects(self, id: int) -> tuple[Object, ...]:
        """The known objects of an image."""

    def thumb(self, item: Item) -> Path:
        """The thumbnail; see `Index.thumb`."""

    def picture(self, item: Item) -> Path:
        """The file, or its thumbnail; see `Index.picture`."""

    def vectors(self, name: str, ids: Sequence[int]) -> np.ndarray:
        """Unit vectors of some images in a space, float32 [n, dim].

        Raises:
            BadIndex: An image or the space does not exist.
        """

    def head_outputs(self, id: int) -> np.ndarray:
        """CLS head outputs of an image from the head cache, float32 [h, d_k]."""

    def source_counts(self) -> list[tuple[str | None, str | None, int]]:
        """Number of images by source and licence."""

    @property
    def bytes(self) -> int:
        """Size of vectors and tables."""


class DatabaseIndex(IndexLike, Protocol):
    """An index whose rows are in a database, which is asked for what is near a query."""

    def candidates(
        self,
        vectors: Mapping[str, Sequence[np.ndarray]],
        count: int,
        *,
        things: Sequence[np.ndarray] | None = None,
        ids: Sequence[int] = (),
        head_cache: bool = False,
        filters: Mapping[str, str | int] | None = None,
    ) -> Index:
        """An index in memory of what is near the vectors; see `foir.ranking.candidates.candidates`."""
