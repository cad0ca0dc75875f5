"""What judged results say about the thing that is searched for: which of their regions was meant."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from foir.index import Index, Regions
from foir.prompts import box_overlaps
from foir.ranking.feedback import RULE, move
from foir.ranking.regions import best_regions
from foir.regions.views import CORNER
from foir.search.query import Feedback, Query

if TYPE_CHECKING:
    from foir.search.scoring import EncodedQuery


def judge(query: Query, encoded: EncodedQuery, index: Index) -> EncodedQuery:
    """The query with what it looks for moved by the judged regions; itself where no regions are compared.

    On a judged image that region is meant which is most similar to the thing, or the one that was pointed at.

    Args:
        query: With its judgements.
        encoded: The same in vectors.
        index: Holds the judged images.
    """
    judged, regions = query.feedback, index.regions
    if not moves_regions(judged) or regions is None or not encoded.targets:
        return encoded
    moved = tuple(
        move(vectors, *(_meant(index, regions, ids, vectors, judged) for ids in (judged.liked, judged.disliked)))
        for vectors in encoded.targets
    )
    return replace(encoded, moved=moved)


def moves_regions(judged: Feedback) -> bool:
    """The judgements are about regions, not about whole images."""
    return bool(judged) and judged.rule == RULE


def _meant(index: Index, regions: Regions, ids: Collection[int], vectors: np.ndarray, judged: Feedback) -> np.ndarray:
    """The vector of what was meant on each image, float32 [n, dim]."""
    rows = [index.row(id) for id in ids]
    found = [region.vector for region in best_regions(regions, rows, vectors)]
    for place, (id, row) in enumerate(zip(ids, rows, strict=True)):
        if id in judged.boxes:
            item = index.item(row)
            found[place] = _region_within(regions, row, np.array(judged.boxes[id]) / [*(item.width, item.height) * 2])
    return np.array(found, np.float32).reshape(-1, vectors.shape[1])


def _region_within(regions: Regions, row: int, box: np.ndarray) -> np.ndarray:
    """The vector of the region of an image that overlaps most with a box, in fractions of the image, float32 [dim]."""
    vectors, corners = regions.of_row(row)
    return np.asarray(vectors[int(box_overlaps(corners / CORNER, box).argmax())], np.float32)
