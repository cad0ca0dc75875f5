"""The time that query perturbation adds to an image, beside the model's own encoding, in one run."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from foir.image_text import ImageTextModel
from foir.playroom import compose
from foir.prompts import Prompt

from ..report import published
from ..report.results import Cell, CellBuilder
from .specs import ImageTextSpec, RunContext

BATCH, OBJECTS = 32, 10
CPU_BATCH = 2  # an image tower of a billion weights takes some ten seconds for each image
RUNS = 3


@dataclass(frozen=True)
class PerturbationCost(ImageTextSpec):
    """The time that query perturbation adds to an image, beside the paper's measurements; needs no data."""

    data_kind = None

    def measure(self, data: None, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """Milliseconds per image of the image tower, the subspaces and the perturbed queries, and shares in percent.

        The batch has `limit` images; 32 on a GPU and two on a CPU without a limit. Random weights cost what trained
        ones do.
        """
        count = context.limit or (BATCH if model.device.startswith("cuda") else CPU_BATCH)
        times = _step_times(model, count)
        options = {"device": _device_name(model.device), "objects": OBJECTS}
        builder = CellBuilder(self.name, "none", model.name, {"encoder": model.revision}, "qpert", options, count)
        cells = [
            builder.using(options={**options, "step": step}, unit="ms").value("ms per image", ms)
            for step, ms in times.items()
        ]
        plain = times["image encoding"] + times["vectors"]
        added = times["subspaces"] + times["vectors, pulled"] - times["vectors"]
        per_object = 1e3 * times["subspaces"] / OBJECTS
        return [
            *cells,
            builder.value("subspaces of image encoding", 100 * (times["subspaces"] / times["image encoding"])),
            builder.value("added to all", 100 * (added / plain)),
            builder.using(unit="µs").value("subspaces of an object", per_object),
            *_published_cells(self.name),
        ]


def _step_times(model: ImageTextModel, count: int) -> dict[str, float]:
    """Milliseconds per image of each step."""
    images = [compose("held-out", number).image for number in range(count)]
    rng = np.random.default_rng(0)
    regions = []
    for image in images:
        corners = rng.uniform(0, 0.7, (OBJECTS, 2)) * image.size
        sides = rng.uniform(0.1, 0.3, (OBJECTS, 2)) * image.size
        boxes = np.concatenate([corners, corners + sides], 1).tolist()
        regions.append(model.visible_regions([Prompt.box(*box) for box in boxes], image.size))
    tokens = model.encode_images(images)
    perturbation = model.perturbation(tokens, regions, strength=1.0)
    steps: dict[str, Callable[[], object]] = {
        "image encoding": lambda: model.encode_images(images),
        "vectors": lambda: model.image_vectors(tokens),
        "subspaces": lambda: model.perturbation(tokens, regions),
        "vectors, pulled": lambda: model.image_vectors(tokens, perturbation),
    }
    return {name: _median_ms(step, model.device) / count for name, step in steps.items()}


def _median_ms(step: Callable[[], object], device: str) -> float:
    """Median milliseconds of a step, after a first run that does not count."""
    step()
    times = []
    for _ in range(RUNS):
        _synchronize(device)
        started = time.perf_counter()
        step()
        _synchronize(device)
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{device}, {torch.get_num_threads()} threads"


def _published_cells(experiment: str) -> list[Cell]:
    """The paper's measurements on its own machines."""
    builder = CellBuilder(experiment, "none", "blip2", {}, unit="ms")
    with (published.FOLDER / "qpert_tableB.csv").open(newline="", encoding="utf-8") as file:
        return [
            builder.using(method=row["method"], options={"device": row["variant"]}).missing(
                row["metric"], float(row["value"]), "published_only"
            )
            for row in csv.DictReader(file)
        ]
