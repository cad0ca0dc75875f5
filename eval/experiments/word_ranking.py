"""Rankings of a gallery for words, by region vectors, whole pictures and what other captions say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foir.encoders.base import Encoder
from foir.ranking.fusion import Part, zscore_fuse
from foir.search.query import TEXT_CONTEXT
from foir.search.scoring import AS_IT_IS, SAID

from ..datasets.base import Dataset
from .region_ranking import DEFAULT, RegionRanking
from .results_cache import ResultsCache


def names_of(data: Dataset) -> list[tuple[str, int]]:
    """The names of what a gallery shows, each with its column of the labels."""
    words = data.category_words or tuple((name,) for name in data.categories)
    return [(name, column) for column, own in enumerate(words) for name in own if data.labels[:, column].any()]


@dataclass(frozen=True, eq=False)
class WordRanking:
    """Pictures as words meet them: plain [n, dim], region vectors [m, dim], and where each picture's begin, [n]."""

    plain: np.ndarray
    vectors: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, data: Dataset, encoder: Encoder, results: ResultsCache) -> WordRanking:
        """Encode a gallery, or read what earlier runs kept."""
        ranking = RegionRanking(data, encoder, [], results)
        return cls(ranking.plain, *ranking.regions(DEFAULT))

    def best_regions(self, texts: np.ndarray) -> np.ndarray:
        """The score of each picture's best region for each text, [texts, n], of unit vectors [texts, dim]."""
        return np.asarray(np.maximum.reduceat(texts @ self.vectors.T, self.starts, axis=1))

    def scores(self, texts: np.ndarray, context: float = TEXT_CONTEXT, share: np.ndarray | None = None) -> np.ndarray:
        """The score of each picture for each text, as `foir.search.scoring` adds it up, float32 [texts, n].

        Args:
            texts: Unit vectors, [texts, dim].
            context: Weight of whole pictures against their best regions.
            share: How much of each text each picture says, [texts, n]; None leaves it out.
        """
        wholes = texts @ self.plain.T
        parts = [[Part(context, own)] for own in wholes]
        if context < 1:
            for each, best in zip(parts, self.best_regions(texts), strict=True):
                each.append(Part(1 - context, best))
        if share is not None:
            for each, said in zip(parts, share, strict=True):
                each.append(Part(SAID, said, reference=AS_IT_IS))
        return np.stack([zscore_fuse(each) for each in parts])
