"""Whether methods come in the order of the paper's table, on a data set whose values cannot be compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import rankdata

from ..metrics.retrieval import Mean, mean_of
from ..report import published
from ..report.results import Cell, CellBuilder
from .specs import Row

MIN_METHODS = 3  # for a rank correlation


def order_cells(
    means: Mapping[Row, Mean], table: str, metric: str, dataset: str, encoders: tuple[str, ...], builder: CellBuilder
) -> Iterator[Cell]:
    """The paper's values of the measured rows, and Spearman's rank correlation with them, for each of its encoders.

    Args:
        means: The mean of each row on the same queries.
        table: Number of the paper's table.
        metric: As the paper writes it.
        dataset: Registry name of the paper's data set.
        encoders: The paper's encoders.
        builder: Of the experiment's cells.
    """
    for encoder in encoders:
        references = {
            row: value
            for row in means
            if row.published
            and (value := published.value("phs", table, dataset, encoder, row.published, metric)) is not None
        }
        for row, value in references.items():
            cell = builder.using(dataset=dataset, encoder=encoder, method=row.method, options=row.options, n=0)
            cell = cell.using(revisions={}, oddities={})
            yield cell.missing(metric, value, "published_only")
        if len(references) >= MIN_METHODS:
            correlation = spearman([means[row] for row in references], np.array(list(references.values())))
            cell = builder.using(
                method="order of the methods", options={"paper": encoder}, n=len(references), unit="", scale=1
            )
            yield cell.value(f"Spearman of {metric}", correlation)


def spearman(means: list[Mean], reference: np.ndarray) -> Mean:
    """Spearman's rank correlation of means with reference values, over the bootstrap draws of the means.

    Equal values share their mean rank. A draw without any order, and a reference without one, has correlation 0.
    """
    return mean_of(
        _spearman(np.array([mean.value for mean in means])[None], reference)[0],
        _spearman(np.stack([mean.draws for mean in means], 1), reference),
    )


def _spearman(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of each row of values [draws, methods]."""
    ranks = rankdata(values, axis=1) - (values.shape[1] + 1) / 2
    expected = rankdata(reference) - (len(reference) + 1) / 2
    length = np.sqrt((ranks**2).sum(1) * (expected**2).sum())
    return np.divide(ranks @ expected, length, out=np.zeros(len(values)), where=length > 0)
