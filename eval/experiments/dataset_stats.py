"""How many objects the query pictures of a data set have (PHS paper, Figure 3)."""

from __future__ import annotations

import numpy as np

from eval.datasets import Dataset
from eval.experiments.specs import DatasetStats
from eval.metrics.retrieval import image_mean
from eval.report.results import Cell

MANY = 20  # and more


def count(experiment: DatasetStats, dataset: Dataset, *, limit: int | None = None) -> list[Cell]:
    """The share of query pictures with 1, 2, ... objects; pictures without any ask for nothing and are not counted."""
    pictures = [q.image for q in dataset.queries if limit is None or q.image < limit]
    numbers = np.bincount(pictures)
    numbers = numbers[numbers > 0]
    cells = []
    for objects in range(1, MANY + 1):
        here = numbers >= MANY if objects == MANY else numbers == objects
        share = image_mean(here.astype(float), np.arange(len(numbers)))
        cells.append(
            Cell(
                experiment=experiment.name,
                dataset=dataset.name,
                encoder="none",
                method="count",
                options={"objects": f"{MANY}+" if objects == MANY else str(objects)},
                metric="share of pictures",
                value=100 * share.value,
                low=100 * share.low,
                high=100 * share.high,
                n=len(numbers),
                revisions={"data": dataset.digest},
            )
        )
    return cells
