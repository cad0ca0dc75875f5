"""What a search starts from and what it returns: `QueryImage` and `SearchResults`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from foir.errors import BadPrompt
from foir.images import Photo
from foir.index import Index, Item
from foir.patches import PatchMask
from foir.prompts import Box, Prompt
from foir.segment import Outline, Segmenter

if TYPE_CHECKING:
    from foir.encoders.base import Features, Prefix


@dataclass(frozen=True, eq=False)
class QueryImage:
    """A photo and the prompt-free part of its forward pass, and what was encoded of it for searches."""

    photo: Photo
    prefix: Prefix
    segment: Segmenter
    _lock: Lock = field(default_factory=Lock)
    _outlines: list[Outline] = field(default_factory=list)
    _things: dict[Hashable, np.ndarray] = field(default_factory=dict)

    def once(self, key: Hashable, encode: Callable[[], np.ndarray]) -> np.ndarray:
        """The region vectors of a mark, which are encoded for its first search: other settings repeat it."""
        if key not in self._things:
            self._things[key] = encode()
        return self._things[key]

    def outline(self, prompt: Prompt, mask: PatchMask) -> np.ndarray:
        """The pixels of the object that a prompt means, bool [H, W]; the first call segments the image.

        Raises:
            Unavailable: See `foir.segment.load_segmenter`.
        """
        with self._lock:
            if not self._outlines:
                self._outlines.append(self.segment(self.photo.image))
        return self._outlines[0](prompt, mask)


@dataclass(frozen=True)
class HitRegion:
    """Where a result holds what was searched for: a box (x0, y0, x1, y1) in pixels, and its cosine with the query."""

    box: Box
    score: float


@dataclass(frozen=True, eq=False)
class SearchResults:
    """The results of a search, best first; where likelihoods are known, the likely ones before all others.

    Attributes:
        items: The images.
        scores: Cosine of each, float32 [k]; a sum of standard scores where several parts were fused, or regions count.
        features: Features of the query image (one row); None for words alone.
        mask: The region that was searched for; None for words alone.
        is_fused: Words were combined with an image or with other words, or results were judged.
        heads: The attention heads that were kept; None if the method selects none.
        is_full_view: The encoder saw the whole image, so its attention can be laid over it; not so after Crop.
        notes: What a user should know about how the query was read.
        regions: The best region of each image for each thing that was pointed at; empty where regions do not count.
        likelihoods: How likely each image holds all of them, 0 to 1, [k]; None where none is fitted
            (`foir.search.likelihood`).
        likely: The number of results, the first ones, that likely do; None where no likelihood is fitted.
    """

    items: tuple[Item, ...]
    scores: np.ndarray
    features: Features | None
    mask: PatchMask | None
    is_fused: bool
    heads: tuple[int, ...] | None
    is_full_view: bool
    notes: tuple[str, ...] = ()
    regions: tuple[tuple[HitRegion, ...], ...] = ()
    likelihoods: np.ndarray | None = None
    likely: int | None = None

    @property
    def similarities(self) -> np.ndarray | None:
        """Cosines, float32 [k]: of the best region (of several things the least similar), else of the image.

        None where words or judgements count too.
        """
        if self.is_fused:
            return None
        if self.regions:
            return np.array([min(region.score for region in regions) for regions in self.regions], np.float32)
        return self.scores

    def above(self, similarity: float) -> SearchResults:
        """Results with at least this cosine; all where there is none."""
        if self.similarities is None:
            return self
        return self._subset([place for place, value in enumerate(self.similarities) if value >= similarity])

    def likely_first(self, is_likely: np.ndarray) -> SearchResults:
        """The likely results, bool [k], before the others, both best first."""
        places = np.argsort(~is_likely, kind="stable").tolist()
        return replace(self._subset(places), likely=int(is_likely.sum()))

    def at_least(self, likelihood: float) -> SearchResults:
        """Results of at least this likelihood.

        Raises:
            BadPrompt: None is fitted.
        """
        if self.likelihoods is None:
            raise BadPrompt("These results have no likelihood: none is fitted for this encoder, or for such a search.")
        return self._subset(np.flatnonzero(self.likelihoods >= likelihood).tolist())

    def excluding(self, id: int | None, k: int) -> SearchResults:
        """The first k results without the image of this id."""
        return self._subset([place for place, item in enumerate(self.items) if item.id != id][:k])

    def keeping(self, places: Mapping[int, int], k: int) -> SearchResults:
        """The first k results, those with these ids at these places."""
        own = {item.id: place for place, item in enumerate(self.items)}
        kept = {place: own[id] for id, place in places.items() if id in own}
        rest = (place for place in range(len(self.items)) if place not in kept.values())
        return self._subset([kept[place] if place in kept else next(rest) for place in range(min(k, len(own)))])

    def within(self, index: Index) -> SearchResults:
        """The results that an index has; itself where that is all of them."""
        places = [place for place, item in enumerate(self.items) if item.id in index]
        return self if len(places) == len(self.items) else self._subset(places)

    def _subset(self, places: Sequence[int]) -> SearchResults:
        items = tuple(self.items[place] for place in places)
        regions = tuple(self.regions[place] for place in places) if self.regions else ()
        likelihoods = None if self.likelihoods is None else self.likelihoods[list(places)]
        likely = None if self.likely is None else sum(place < self.likely for place in places)
        return replace(
            self, items=items, scores=self.scores[list(places)], regions=regions, likelihoods=likelihoods, likely=likely
        )
