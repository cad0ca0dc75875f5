"""Precision of prompted retrieval: every row of a table on the same queries and the same gallery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby, product
from typing import Any

import numpy as np
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.index import Space
from foir.ranking.shortlist import Shortlist, is_worthwhile
from foir.terminal import write

from ..datasets.base import Dataset, Query
from ..metrics.ranking import rank
from ..metrics.retrieval import Mean, average_precision, category_mean, image_mean, precision
from ..report import published
from ..report.results import Cell, CellBuilder
from .gallery import cache_key, encode_gallery
from .paper_order import order_cells
from .query_features import NumberedQueries, RowFeatures, query_features, select_queries
from .query_prompts import LEFT_OUT, count_oddities, no_query, write_oddities
from .results_cache import ResultsCache
from .specs import ExperimentSpec, Row, RunContext

MANY = 10  # objects on an image; larger counts share a group
CHUNK = 128  # query images; a killed run loses at most one chunk
# Metric: the value of each query that it averages, and how.
METRICS: Mapping[str, tuple[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Mean]]] = {
    "MP": ("precision", category_mean),
    "MAP": ("average precision", category_mean),
    "P": ("precision", lambda values, images, _: image_mean(values, images)),
}


@dataclass(frozen=True)
class PromptedRetrieval(ExperimentSpec):
    """Prompted retrieval with each of several methods.

    Attributes:
        rows: In the table's order; the others are compared with the first.
        k: Depth of the metrics.
        metrics: "MP", "MAP" (means over categories, as in the paper) or "P" (mean over query images).
        table: Its number in the PHS paper, if it is one of its tables.
        by: Also split by the number of prompted objects on the query image: "objects" for exactly so many, "at-least"
            for so many or more; "" for no split.
        group: The part of the split that the paper's numbers are of.
        best: Report the best number of heads.
        beside_float32: Measure in float32 too, and report what another dtype changes.
    """

    rows: tuple[Row, ...]
    k: int
    metrics: tuple[str, ...] = ("MP",)
    table: str = ""
    by: str = ""
    group: str = ""
    best: bool = False
    beside_float32: bool = False

    def measure(self, data: Dataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """See `ExperimentSpec`."""
        best = perfect_precision(data, self.k)
        write(f"{data.name}: {len(data.gallery)} images, perfect ranking MP@{self.k} = {best:.1f} %.")
        scored = sorted({query.category for query in data.queries})
        if len(scored) < len(data.categories):
            write(f"Scored: {', '.join(data.categories[category] for category in scored)}.")
        queries = sorted(select_queries(data, context.limit), key=lambda numbered: numbered[1].image)
        rows = [row for row in self.rows if _can_run(row, encoder, [query for _, query in queries])]
        values = _query_values(self, data, encoder, context.cache, rows, queries)
        exact = {}
        if self.beside_float32:
            same = self.load_model(encoder.name, replace(context, dtype="float32"))
            exact = _query_values(self, data, same, context.cache, rows, queries)
        counted = _counted(data, queries, values)
        images, categories = (np.array([getattr(q, name) for _, q in queries]) for name in ("image", "category"))
        groups = _groups(self.by, data, images, counted)
        first = self.rows[0]
        builder = self.cells(data, encoder)
        cells: list[Cell] = []
        bases: dict[tuple[str, str], Mean] = {}
        means: dict[str, dict[Row, Mean]] = {}
        for row in self.rows:
            for name, (group, inside) in product(self.metrics, groups.items()):
                options = {**row.options, **row.prompt_options} | ({"objects": group} if group else {})
                metric = f"{name}@{self.k}"
                cell = builder.using(method=row.method, options=options, n=int(inside.sum()))
                reference = self.published_value(row, data.name, encoder.name, metric, group)
                if row not in rows:
                    cells.append(cell.missing(metric, reference))
                    continue
                per_query, average = METRICS[name]
                mean = average(values[row][per_query][inside], images[inside], categories[inside])
                oddities = count_oddities(np.where(counted, values[row]["oddities"], LEFT_OUT))
                cell = cell.using(seconds=round(float(values[row]["seconds"]), 3), oddities=oddities)
                baselines = {first.method: bases[metric, group]} if row != first and first in rows else {}
                if row in exact:
                    precise = exact[row][per_query][inside]
                    baselines["float32"] = average(precise, images[inside], categories[inside])
                cells += cell.compared(metric, mean, baselines, reference)
                bases.setdefault((metric, group), mean)
                if not group:
                    means.setdefault(metric, {})[row] = mean
        if data.orientation:
            for metric, rows_means in means.items():
                cells += order_cells(rows_means, self.table, metric, data.orientation, self.encoders, builder)
        return cells + ([self._best(cells, builder)] if self.best else [])

    def published_value(self, row: Row, dataset: str, encoder: str, metric: str, group: str = "") -> float | None:
        """The paper's value of a row; None where it has none."""
        if row.published is None or group != self.group:
            return None
        return published.value("phs", self.table, dataset, encoder, row.published, metric)

    def _best(self, cells: Sequence[Cell], builder: CellBuilder) -> Cell:
        """The number of heads with which PHS does best, the smallest of equals, beside the paper's."""
        name = f"{self.metrics[0]}@{self.k}"
        scan = [cell for cell in cells if cell.metric == name and "h_on" in cell.options and cell.value is not None]
        best = max(scan, key=lambda cell: cell.value or 0.0)
        theirs = published.value(
            "phs", "Sec4.9", builder.dataset, builder.encoder, ("PHS", "best h_on in scan"), "h_on"
        )
        cell = builder.using(method="phs", unit="heads", n=best.n)
        return cell.value("best h_on", float(best.options["h_on"]), theirs)


def perfect_precision(dataset: Dataset, k: int) -> float:
    """The MP@k in percent of a perfect ranking: rare categories cannot fill k places."""
    relevant = dataset.labels.sum(0) - dataset.leave_one_out
    categories = np.array([q.category for q in dataset.queries])
    images = np.array([q.image for q in dataset.queries])
    return 100 * category_mean(np.minimum(relevant[categories], k) / k, images, categories).value


def _can_run(row: Row, encoder: Encoder, queries: Sequence[Query]) -> bool:
    """Whether the encoder has as many heads as the row keeps, and the data set the masks that the row needs."""
    return row.options.get("h_on", 1) <= encoder.heads and (row.prompt == "box" or any(q.mask for q in queries))


def _counted(data: Dataset, queries: NumberedQueries, values: Mapping[Row, Mapping[str, Any]]) -> np.ndarray:
    """Which queries count, bool [queries]: those with a prompt in every row, so that rows can be compared.

    What is odd about the others is written.

    Raises:
        Unavailable: None counts.
    """
    oddities = np.max([row["oddities"] for row in values.values()], axis=0, initial=0)
    write_oddities(data.name, count_oddities(oddities))
    counted = np.broadcast_to(oddities != LEFT_OUT, len(queries))
    if not counted.any():
        raise no_query(data)
    return counted


def _groups(by: str, dataset: Dataset, images: np.ndarray, counted: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the counted queries are in each group, bool [n]: all under "", then by the objects on their image."""
    groups = {"": counted}
    if by:
        counts = np.bincount([q.image for q in dataset.queries], minlength=len(dataset.query_images))[images]
        for count in range(1, MANY + 1):
            open_ended = by == "at-least" or count == MANY
            inside = counted & (counts >= count if open_ended else counts == count)
            if inside.any():
                groups[f"{count}+" if open_ended else str(count)] = inside
    return groups


@dataclass(frozen=True)
class _Search:
    """What the searches of all rows share."""

    dataset: Dataset
    encoder: Encoder
    gallery: Space
    shortlist: Shortlist | None
    k: int

    def query_values(
        self, row: Row, queries: NumberedQueries, features: Callable[[], Mapping[Row, RowFeatures]]
    ) -> dict[str, np.ndarray]:
        """The metrics of each query, averaged over its prompts, NaN without any; its oddity; the seconds of all."""
        prompts = features()[row]
        started = time.perf_counter()
        if not prompts.vectors:
            nothing = np.full(len(queries), np.nan)
            return {"precision": nothing, "average precision": nothing, "oddities": prompts.oddities,
                    "seconds": np.array(prompts.seconds)}  # fmt: skip
        depth, vectors = self.k + self.dataset.leave_one_out, np.stack(prompts.vectors)
        results = rank(self.encoder, self.gallery, row.mode, prompts.gates, vectors, depth, self.shortlist)
        images, categories = (
            np.array([getattr(queries[i][1], name) for i in prompts.queries]) for name in ("image", "category")
        )
        if self.dataset.leave_one_out:
            results = _drop_self(results, images)
        relevance = self.dataset.labels[results, categories[:, None]]
        metrics = {"precision": precision(relevance), "average precision": average_precision(relevance)}
        counts = np.bincount(prompts.queries, minlength=len(queries))
        with np.errstate(invalid="ignore"):  # a query that is left out has no prompt
            means = {name: np.bincount(prompts.queries, each, len(queries)) / counts for name, each in metrics.items()}
        seconds = np.array(prompts.seconds + time.perf_counter() - started)
        return {**means, "oddities": prompts.oddities, "seconds": seconds}


def _query_values(
    experiment: PromptedRetrieval, dataset: Dataset, encoder: Encoder, results: ResultsCache, rows: Sequence[Row],
    queries: NumberedQueries,
) -> dict[Row, dict[str, Any]]:  # fmt: skip
    """What `_Search.query_values` returns, by row; rows that the cache lacks share the images' prefixes."""
    gallery = encode_gallery(encoder, dataset, results)
    two_stages = any(row.mode == "query-db" for row in rows) and is_worthwhile(encoder, gallery)
    search = _Search(dataset, encoder, gallery, Shortlist(encoder, gallery) if two_stages else None, experiment.k)
    chunks: dict[Row, list[dict[str, np.ndarray]]] = {row: [] for row in rows}
    key = [*cache_key(encoder, dataset), experiment.k]
    for chunk in tqdm(list(_chunks(queries)), unit="chunk", desc="queries"):
        features = cache(partial(query_features, dataset, encoder, rows, chunk))
        chunk_key = [*key, chunk[0][0], chunk[-1][0], len(chunk)]
        for row in rows:
            row_key = [*chunk_key, row.method, row.options, row.prompt_options]
            found = results.get(row_key, partial(search.query_values, row, chunk, features))
            chunks[row].append(found)
    names = ("precision", "average precision", "oddities")
    return {
        row: {name: np.concatenate([values[name] for values in parts]) for name in names}
        | {"seconds": sum(values["seconds"] for values in parts)}
        for row, parts in chunks.items()
    }


def _chunks(queries: NumberedQueries) -> Iterator[NumberedQueries]:
    """The queries of `CHUNK` images at a time; those of one image stay together."""
    by_image = [list(group) for _, group in groupby(queries, lambda numbered: numbered[1].image)]
    for start in range(0, len(by_image), CHUNK):
        yield [numbered for group in by_image[start : start + CHUNK] for numbered in group]


def _drop_self(results: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Drop each query's own image from its results [n, k + 1]; the last result where it is not among them."""
    keep = results != images[:, None]
    keep[keep.all(1), -1] = False
    return results[keep].reshape(len(results), -1)


RIVALS = (Row("mask"), Row("crop"), Row("foveal"), Row("attention_mask"))


def _head_counts(heads: int) -> tuple[Row, ...]:
    """PHS with 1 to `heads` heads, on the query, and on query and gallery."""
    modes = ("query", "query-db")
    return tuple(Row("phs", {"h_on": h_on}, mode) for mode in modes for h_on in range(1, heads + 1))


POINTED = ("playroom", "playroom-instances", "coco_small")
POINTING = (
    Row("cbir"),
    *RIVALS,
    *(Row("phs", {"h_on": h_on}) for h_on in (3, 5, 6, 8, 10)),
    Row("phs", {"h_on": 5}, "query-db"),
    Row("foveal|phs", {"h_on": 5}),
    Row("attention_mask|phs", {"h_on": 5}),
)
EXPERIMENTS = (
    PromptedRetrieval(
        "coco-small", "Every method and head count on coco_small, leave-one-out", ("coco_small",), ("mini",),
        (
            Row("cbir"),
            *RIVALS,
            *_head_counts(12),
            Row("phs", {"h_on": 5, "roi": "max"}),
            *(Row("phs", {"h_on": 5, "variant": v}) for v in ("before", "after", "after+scale", "identity")),
            Row("foveal|phs", {"h_on": 5}),
            Row("attention_mask|phs", {"h_on": 5}),
            Row("crop|phs", {"h_on": -1}),
        ),
        10,
    ),
    PromptedRetrieval(
        "mini-pointing", "Small objects (1 to 5 % of the image) of held-out playroom scenes, and COCO photos",
        POINTED, ("mini",), POINTING, 10, ("MP", "P"),
    ),
    PromptedRetrieval(
        "mini-pointing-dtype", "The same with --dtype bfloat16, and what it changes against float32", POINTED,
        ("mini",), POINTING, 10, beside_float32=True,
    ),
    PromptedRetrieval(
        "mini-depth", "Which block of mini's backbone retrieves best", ("coco_small",),
        tuple(f"mini-trunk:{blocks}" for blocks in range(6, 13)), (Row("cbir"), Row("phs", {"h_on": 5})), 10,
    ),
)  # fmt: skip
