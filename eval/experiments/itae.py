"""Zero-shot clustering: k-means on features, with and without attention sinks, scored against known classes (ITAE)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from foir import clustering
from foir.encoders.base import Encoder
from foir.encoders.block import LastBlock
from foir.methods import intervene, itae
from foir.patches import PatchMask
from foir.prompts import Prompt

from ..datasets.base import ClassificationDataset
from ..metrics.retrieval import Mean
from ..report import published
from ..report.results import Cell
from .specs import ExperimentSpec, Row, RunContext

BATCH = 16
SAMPLE = 2000  # images for the diagnosis of artifacts
METRICS = ("ACC", "NMI", "ARI")
SPLITS = ("test split", "split unstated")  # as the leaderboard names them


@dataclass(frozen=True)
class Clustering(ExperimentSpec):
    """Agreement of k-means on features with the classes.

    Attributes:
        rows: Methods without a prompt; the others are compared with the first.
        seeds: Starts of k-means, over which the mean is taken.
    """

    data_kind = ClassificationDataset
    rows: tuple[Row, ...]
    seeds: int = 5

    def measure(self, data: ClassificationDataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """ACC, NMI and ARI of each row, means over the seeds, of unit features and of features as they leave the model.

        Where a sample shows no artifacts the row of ITAE equals the plain one, and its options report that.
        """
        started = time.perf_counter()
        count = context.count(len(data.images))
        diagnosis = _diagnose(data, encoder, min(count, SAMPLE))
        artifacts: dict[str, Any] = {"artifacts": "none"}
        if diagnosis is not None:
            share = f"{100 * diagnosis.share:.2f} %"
            artifacts = {"component": diagnosis.component, "side": diagnosis.side, "artifacts": share}
        features = _features(data, encoder, self.rows, diagnosis, count)
        builder = self.cells(data, encoder, started, n=count, scale=1)
        cells: list[Cell] = []
        bases: dict[tuple[str, bool], np.ndarray] = {}
        for row in self.rows:
            for unit in (True, False):
                options = {"features": "unit" if unit else "raw", **(artifacts if row.method == "itae" else {})}
                cell = builder.using(method=row.method, options=options)
                scores = _scores(data, features[row], unit, self.seeds)
                for metric in METRICS:
                    values = np.array([100 * run[metric] for run in scores])
                    reference = self.published_value(row, data.name, encoder.name, metric)
                    cells.append(cell.value(metric, _seed_mean(values), reference))
                    base = bases.setdefault((metric, unit), values)
                    if base is not values:
                        difference = _seed_mean(values - base)
                        cells.append(cell.value(f"{metric} minus {self.rows[0].method}", difference))
        return cells

    def published_value(self, row: Row, dataset: str, encoder: str, metric: str) -> float | None:
        """The leaderboard's value of a row in percent, of its test split or of a split that it does not name."""
        names = [(row.published[0], split) for split in SPLITS] if row.published else []
        values = (published.value("itae", "leaderboard", dataset, encoder, name, metric) for name in names)
        value = next((value for value in values if value is not None), None)
        return None if value is None else 100 * value


def _scores(data: ClassificationDataset, vectors: np.ndarray, unit: bool, seeds: int) -> list[dict[str, float]]:
    """The scores of each seed."""
    if unit:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = data.labels[: len(vectors)]
    return [
        clustering.clustering_scores(clustering.kmeans(vectors, len(data.class_names), seed=seed), labels)
        for seed in range(seeds)
    ]


def _seed_mean(values: np.ndarray) -> Mean:
    """A mean over seeds; its interval is from the smallest to the largest."""
    return Mean(float(np.mean(values)), float(values.min()), float(values.max()), values)


def _diagnose(data: ClassificationDataset, encoder: Encoder, count: int) -> itae.Diagnosis | None:
    """The artifacts on an evenly spaced sample of the images; None where there are none."""
    rows = np.unique(np.linspace(0, len(data.images) - 1, count).astype(int))

    def blocks() -> Iterator[LastBlock]:
        for start in range(0, len(rows), BATCH):
            images = [data.images[row]() for row in rows[start : start + BATCH]]
            block = encoder.prefix(encoder.pixels(images)).block
            yield from (block.at(i) for i in range(len(images)))

    return itae.diagnose(blocks())


def _features(
    data: ClassificationDataset, encoder: Encoder, rows: Sequence[Row], diagnosis: itae.Diagnosis | None, count: int
) -> dict[Row, np.ndarray]:
    """Features as they leave the model, float32 [count, dim]."""
    batches: dict[Row, list[np.ndarray]] = {row: [] for row in rows}
    whole, mask = Prompt.box(0, 0, 1, 1), PatchMask.everything((1, 1), encoder.grid)
    for start in tqdm(range(0, count, BATCH), desc="images"):
        images = [load() for load in data.images[start : min(start + BATCH, count)]]
        prefix = encoder.prefix(encoder.pixels(images))
        for row in rows:
            method, options = row.method, {}
            if method == "itae" and diagnosis is None:
                method = "cbir"
            elif method == "itae" and diagnosis is not None:
                options = {"component": diagnosis.component, "side": diagnosis.side}
            output = encoder.finish(prefix, [intervene(method, whole, mask, options)])
            hidden = encoder.layers[-1].tail(output.z, output.residual)
            batches[row].append(encoder.project(encoder.normed(hidden)).detach().float().cpu().numpy())
    return {row: np.concatenate(arrays) for row, arrays in batches.items()}


EXPERIMENTS = (
    Clustering(
        "itae-table", "ITAE: k-means without attention sinks, with and without registers",
        ("cifar10", "cifar100", "stl10", "tiny-imagenet"),
        tuple(f"dinov2-{size}{reg}" for size in ("small", "base", "large", "giant") for reg in ("", "-reg")),
        (Row("cbir"), Row("itae", published=("ITAE", ""))),
        note=(
            "The leaderboard's values of Tiny-ImageNet name neither the model's size nor the split. They stand beside "
            "dinov2-base, the model of its other values; ours is measured on the validation images, because the test "
            "images have no labels."
        ),
    ),
)  # fmt: skip
