"""What query perturbation adds to the time of a picture, beside the model's own encoding, in one run."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from eval.experiments.specs import PerturbationCost
from eval.report import published
from eval.report.results import Cell
from foir.image_text import ImageTextModel
from foir.patches import rasterise
from foir.playroom import compose
from foir.prompts import Prompt

BATCH, OBJECTS = 32, 10
ON_CPU = 2  # pictures a batch there: an image tower of a billion weights takes some ten seconds for each
RUNS = 3


def cost(experiment: PerturbationCost, model: ImageTextModel, batch: int | None = None) -> list[Cell]:
    """Milliseconds a picture of the image tower, the subspaces and the pulled queries, and their share in percent.

    Args:
        experiment: The table.
        model: Opened; random weights cost what trained ones do.
        batch: Pictures at a time; 32 on a GPU, two on a CPU if left out.
    """
    count = batch or (BATCH if model.device.startswith("cuda") else ON_CPU)
    images = [compose("held-out", number).image for number in range(count)]
    rng = np.random.default_rng(0)
    regions = []
    for image in images:
        corners = rng.uniform(0, 0.7, (OBJECTS, 2)) * image.size
        sides = rng.uniform(0.1, 0.3, (OBJECTS, 2)) * image.size
        boxes = np.concatenate([corners, corners + sides], 1).tolist()
        regions.append([rasterise(Prompt.box(*box).fit(image.size), image.size, model.grid) for box in boxes])
    tokens = model.encode_images(images)
    pull = model.perturbation(tokens, regions, strength=1.0)
    times = {
        "image encoding": _ms(lambda: model.encode_images(images), model.device) / count,
        "vectors": _ms(lambda: model.image_vectors(tokens), model.device) / count,
        "subspaces": _ms(lambda: model.perturbation(tokens, regions), model.device) / count,
        "vectors, pulled": _ms(lambda: model.image_vectors(tokens, pull), model.device) / count,
    }
    about: dict[str, Any] = {
        "experiment": experiment.name,
        "dataset": "none",
        "encoder": model.name,
        "method": "qpert",
        "n": count,
        "revisions": {"encoder": model.revision},
    }
    options = {"device": _device(model.device), "objects": OBJECTS}
    cells = [
        Cell(**about, options={**options, "step": s}, metric="ms per image", value=ms, unit="ms")
        for s, ms in times.items()
    ]
    own = times["image encoding"] + times["vectors"]
    extra = times["subspaces"] + times["vectors, pulled"] - times["vectors"]
    parts = {"subspaces of image encoding": times["subspaces"] / times["image encoding"], "added to all": extra / own}
    cells += [Cell(**about, options=options, metric=name, value=100 * share) for name, share in parts.items()]
    per_object = 1e3 * times["subspaces"] / OBJECTS
    cells.append(Cell(**about, options=options, metric="subspaces of an object", value=per_object, unit="µs"))
    return cells + _theirs(experiment)


def _ms(step: Callable[[], object], device: str) -> float:
    """Median milliseconds of a step, after it has run once."""
    step()
    spent = []
    for _ in range(RUNS):
        _wait(device)
        started = time.perf_counter()
        step()
        _wait(device)
        spent.append(1e3 * (time.perf_counter() - started))
    return float(np.median(spent))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{device}, {torch.get_num_threads()} threads"


def _theirs(experiment: PerturbationCost) -> list[Cell]:
    """What the paper measured, on its own machines."""
    with (published.FOLDER / "qpert_tableB.csv").open(newline="", encoding="utf-8") as file:
        return [
            Cell(
                experiment.name, "none", "blip2", row["method"], {"device": row["variant"]}, row["metric"], None,
                unit="ms", published=float(row["value"]), status="published_only",
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
