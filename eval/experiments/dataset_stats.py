"""The number of objects on the query images of a data set (PHS paper, Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..datasets import Dataset
from ..metrics.retrieval import image_mean
from ..report.results import Cell, CellBuilder
from .query_features import select_queries
from .specs import ExperimentSpec, RunContext

MANY = 20  # larger counts share a cell


@dataclass(frozen=True)
class DatasetStats(ExperimentSpec):
    """How many objects a query image has, as shares of the images; needs no encoder."""

    encoders: tuple[str, ...] = ("none",)

    def run(self, dataset: str, encoder: str, context: RunContext) -> list[Cell]:
        """See `ExperimentSpec`."""
        return measure(self, context.load_dataset(dataset, Dataset), limit=context.limit)


def measure(experiment: DatasetStats, dataset: Dataset, *, limit: int | None = None) -> list[Cell]:
    """The share of query images with 1, 2, ... objects; images without queries do not count."""
    counts = np.bincount([query.image for _, query in select_queries(dataset, limit)])
    counts = counts[counts > 0]
    builder = CellBuilder(experiment.name, dataset.name, "none", {"data": dataset.digest}, "count", n=len(counts))
    cells = []
    for objects in range(1, MANY + 1):
        inside = counts >= MANY if objects == MANY else counts == objects
        cell = builder.using(options={"objects": f"{MANY}+" if objects == MANY else str(objects)})
        cells.append(cell.value("share of pictures", image_mean(inside.astype(float), np.arange(len(counts)))))
    return cells
