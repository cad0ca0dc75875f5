"""The query rule of the region tables: the things of a data set that a user would point at."""

from __future__ import annotations

from dataclasses import replace

from .base import Dataset, Query
from .checks import visible_share

SHARES = (0.01, 0.3)  # of a photo that a box covers


def point_at_things(data: Dataset) -> Dataset:
    """A data set with the queries of the region tables.

    The measure is MP@10, a mean over classes (`eval.metrics.retrieval.category_mean`).

    - Photos: one box a picture and class, the largest of those that cover 1 to 30 % of the picture. The query picture
      is left out of its results.
    - Composed scenes (`playroom-things` and so on): every annotated object of the held-out scenes, by its box, whatever
      its size. Relevant are the scenes with an object of the same category; or those with the same toy, where at least
      ten of the 600 gallery scenes show it (seven of the 400 of `playroom-dev`).
    - Folders of classes: nothing is annotated, so every picture asks as a whole.
    """
    if data.shared_gallery.startswith("playroom"):
        return data
    sizes = {image: data.query_images[image]().size for image in sorted({query.image for query in data.queries})}
    shares = [visible_share(query.prompt.boxes[0], sizes[query.image]) for query in data.queries]
    if all(share == 1 for share in shares):
        return data
    largest: dict[tuple[int, int], tuple[float, Query]] = {}
    for query, share in zip(data.queries, shares, strict=True):
        known = largest.get((query.image, query.category))
        if SHARES[0] <= share <= SHARES[1] and (known is None or share > known[0]):
            largest[query.image, query.category] = share, query
    return replace(data, queries=tuple(query for _, query in largest.values()))
