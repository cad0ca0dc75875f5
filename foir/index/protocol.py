"""What searching asks of an index, wherever its rows are kept: in files (`Index`), or in Milvus (`MilvusIndex`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from foir.index.records import Item, Object, Space

if TYPE_CHECKING:
    from foir.index.reader import Index


class IndexLike(Protocol):
    """An index to search."""

    folder: Path
    manifest: Mapping[str, Any]
    spaces: Mapping[str, Space]

    def __len__(self) -> int: ...

    def space(self, name: str = "image") -> Space:
        """A space by name: what made it. Only an index in files holds its vectors there.

        Raises:
            BadIndex: The index does not have it.
        """

    def get(self, id: int) -> Item:
        """The picture of this id.

        Raises:
            BadIndex: There is none.
        """

    def sample(self, count: int) -> list[Item]:
        """About so many pictures, evenly over the index, or all where it has no more."""

    def objects(self, id: int) -> tuple[Object, ...]:
        """What is known to be on a picture."""

    def thumb(self, item: Item) -> Path:
        """Its thumbnail; see `Index.thumb`."""

    def picture(self, item: Item) -> Path:
        """Its file, or its thumbnail; see `Index.picture`."""

    def vectors(self, name: str, ids: Sequence[int]) -> np.ndarray:
        """Some pictures' unit vectors in a space, float32 [n, dim].

        Raises:
            BadIndex: There is no such picture or space.
        """

    def head_outputs(self, id: int) -> np.ndarray:
        """A picture's CLS head outputs of the head cache, float32 [h, d_k]."""

    def source_counts(self) -> list[tuple[str | None, str | None, int]]:
        """Sources, licences and how many pictures are under them."""

    @property
    def bytes(self) -> int:
        """What its vectors and tables take."""

    def candidates(
        self,
        wishes: Mapping[str, Sequence[np.ndarray]],
        count: int,
        *,
        ids: Sequence[int] = (),
        heads: bool = False,
        only: Mapping[str, str | int] | None = None,
    ) -> Index:
        """An index in memory of what can be a result: the files themselves, or what a database finds near the wishes.

        Args:
            wishes: By space, the unit vectors that are looked for.
            count: How many pictures for each of them.
            ids: Pictures that have to be there too.
            heads: The head cache is needed.
            only: Fields of pictures (`foir.index.records.FIELDS`) and what they must be; see also `Index.excluded_mask`.
        """
