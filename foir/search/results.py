"""What a search starts from and what it returns: `QueryImage` and `SearchResults`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from foir.encoders.base import Features, Prefix
from foir.images import Photo
from foir.index import Item
from foir.patches import PatchMask
from foir.prompts import Prompt
from foir.segment import Outline, Segmenter


@dataclass(frozen=True, eq=False)
class QueryImage:
    """A photo and the prompt-free part of its forward pass: every further prompt on it is cheap."""

    photo: Photo
    prefix: Prefix
    segment: Segmenter
    _lock: Lock = field(default_factory=Lock)
    _outlines: list[Outline] = field(default_factory=list)

    def outline(self, prompt: Prompt, mask: PatchMask) -> np.ndarray:
        """The pixels of the object that a prompt means, bool [H, W]; the first call segments the image.

        Raises:
            Unavailable: See `foir.segment.load_segmenter`.
        """
        with self._lock:
            if not self._outlines:
                self._outlines.append(self.segment(self.photo.image))
        return self._outlines[0](prompt, mask)


@dataclass(frozen=True, eq=False)
class SearchResults:
    """The results of a search, best first.

    Attributes:
        items: The images.
        scores: Cosine of each, float32 [k]; a sum of standard scores where several parts were fused.
        features: Features of the query image (one row); None for words alone.
        mask: The region that was searched for; None for words alone.
        is_fused: Several parts or judgements were fused, so scores are no cosines.
        heads: The attention heads that were kept; None if the method selects none.
        is_full_view: The encoder saw the whole image, so its attention can be laid over it; not so after Crop.
        notes: What a user should know about how the query was read.
    """

    items: tuple[Item, ...]
    scores: np.ndarray
    features: Features | None
    mask: PatchMask | None
    is_fused: bool
    heads: tuple[int, ...] | None
    is_full_view: bool
    notes: tuple[str, ...]

    def above(self, score: float) -> SearchResults:
        """Results with at least this score."""
        return self._subset([place for place, value in enumerate(self.scores) if value >= score])

    def excluding(self, id: int | None, k: int) -> SearchResults:
        """The first k results without the image of this id."""
        return self._subset([place for place, item in enumerate(self.items) if item.id != id][:k])

    def _subset(self, places: Sequence[int]) -> SearchResults:
        return replace(self, items=tuple(self.items[place] for place in places), scores=self.scores[list(places)])
