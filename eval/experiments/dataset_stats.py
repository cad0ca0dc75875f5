"""The number of objects on the query images of a data set (PHS paper, Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..datasets.base import Dataset
from ..metrics.retrieval import image_mean
from ..report.results import Cell, CellBuilder
from .query_features import select_queries
from .specs import ExperimentSpec, RunContext

MANY = 20  # larger counts share a cell


@dataclass(frozen=True)
class DatasetStats(ExperimentSpec):
    """How many objects a query image has, as shares of the images; needs no encoder."""

    encoders: tuple[str, ...] = ("none",)

    def load_model(self, name: str, context: RunContext) -> None:
        """No model is needed."""

    def measure(self, data: Dataset, model: None, context: RunContext) -> list[Cell]:
        """The share of query images with 1, 2, ... objects; images without queries do not count."""
        counts = np.bincount([query.image for _, query in select_queries(data, context.limit)])
        counts = counts[counts > 0]
        builder = CellBuilder(self.name, data.name, "none", {"data": data.digest}, "count", n=len(counts))
        cells = []
        for objects in range(1, MANY + 1):
            inside = counts >= MANY if objects == MANY else counts == objects
            cell = builder.using(options={"objects": f"{MANY}+" if objects == MANY else str(objects)})
            cells.append(cell.value("share of pictures", image_mean(inside.astype(float), np.arange(len(counts)))))
        return cells
