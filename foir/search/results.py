"""What a search starts from and what it finds: Picture, one person's photo with its prefix kept; Hits."""

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
        """The pixels of the thing that a prompt means, bool [H, W]; the first time takes a while.

        Raises:
            Unavailable: See `foir.segment.load_segmenter`.
        """
        with self._lock:
            if not self._outlines:
                self._outlines.append(self.segment(self.photo.image))
        return self._outlines[0](prompt, mask)


@dataclass(frozen=True, eq=False)
class SearchResults:
    """What a search found, best first.

    Attributes:
        items: The pictures.
        scores: Cosine of each, float32 [k]; where several wishes were weighed, a sum of standard scores.
        features: The query picture's features (one row), None where words alone were searched for.
        mask: The region that was searched for, None likewise.
        weighed: Several wishes or judgements were weighed, so scores are no cosines.
        heads: The heads that were kept, None if the method selects none.
        seen_whole: The encoder saw the whole picture, so its attention can be laid over it; not so after Crop.
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
        """Those with at least this score: the irrelevant tail is cut off."""
        return self._only([place for place, own in enumerate(self.scores) if own >= score])

    def excluding(self, id: int | None, k: int) -> SearchResults:
        """The first k of them, without the picture of this id."""
        return self._only([place for place, item in enumerate(self.items) if item.id != id][:k])

    def _only(self, keep: Sequence[int]) -> SearchResults:
        return replace(self, items=tuple(self.items[place] for place in keep), scores=self.scores[list(keep)])
