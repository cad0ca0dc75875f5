"""Features of prompted queries: one prefix for each image, shared by all its prompts and all rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate
from foir.errors import Unavailable
from foir.methods import intervene

from ..datasets.base import Dataset, Query
from .query_prompts import PromptMask, query_prompts
from .specs import Row

BATCH = 16  # prompts
NumberedQueries = Sequence[tuple[int, Query]]  # the number in the data set, and the query


class RowFeatures:
    """Features of a row's prompts.

    Attributes:
        vectors: Unit vector of each prompt, float32 [dim].
        gates: Head gate of each prompt.
        queries: Position of each prompt's query among the queries; a query that is left out has no prompt.
        oddities: What is odd about each query, [queries]; see `query_prompts`.
        seconds: Wall time without the prefixes.
    """

    def __init__(self, count: int) -> None:
        """No prompts yet of so many queries."""
        self.vectors: list[np.ndarray] = []
        self.gates: list[HeadGate | None] = []
        self.queries: list[int] = []
        self.oddities = np.zeros(count, int)
        self.seconds = 0.0


def select_queries(dataset: Dataset, limit: int | None) -> list[tuple[int, Query]]:
    """The queries of the first `limit` images, or all, in the data set's order.

    Raises:
        Unavailable: There are none.
    """
    queries = [(i, query) for i, query in enumerate(dataset.queries) if limit is None or query.image < limit]
    if not queries:
        raise Unavailable(f"No object of {dataset.name} is a query" + (": raise --limit." if limit else "."))
    return queries


def query_features(
    dataset: Dataset, encoder: Encoder, rows: Sequence[Row], queries: NumberedQueries
) -> dict[Row, RowFeatures]:
    """Features of every row; `queries` must be sorted by image."""
    features = {row: RowFeatures(len(queries)) for row in rows}
    positions = {number: i for i, (number, _) in enumerate(queries)}
    for image_number, group in groupby(queries, lambda numbered: numbered[1].image):
        image_queries = list(group)
        places = [positions[number] for number, _ in image_queries]
        image = dataset.query_images[image_number]()
        prefix = encoder.prefix(encoder.pixels([image]))
        prompts: dict[tuple[str, int], list[tuple[int, PromptMask]]] = {}
        oddities: dict[tuple[str, int], list[int]] = {}
        for row in rows:
            started = time.perf_counter()
            kind = (row.prompt, row.noise)
            if kind not in prompts:
                found = [
                    query_prompts(query, number, image.size, encoder.grid, prompt=row.prompt, noise=row.noise)
                    for number, query in image_queries
                ]
                prompts[kind] = [(i, prompt) for i, (some, _) in zip(places, found, strict=True) for prompt in some]
                oddities[kind] = [oddity for _, oddity in found]
            features[row].oddities[places] = oddities[kind]
            for start in range(0, len(prompts[kind]), BATCH):
                batch = prompts[kind][start : start + BATCH]
                interventions = [intervene(row.method, prompt, mask, row.options) for _, (prompt, mask) in batch]
                output = encoder.features(image, interventions, prefix)
                features[row].vectors.extend(output.vectors.cpu().numpy())
                features[row].gates.extend(output.gates)
                features[row].queries.extend(position for position, _ in batch)
            features[row].seconds += time.perf_counter() - started
    return features
