"""What a run costs this machine: hours to read and to compute, disk, GPU memory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from foir.encoders import resolve_device
from foir.methods import intervene
from foir.patches import PatchMask
from foir.prompts import Prompt

from ..benchmarks import cost
from ..benchmarks.timing import timed
from ..experiments.prompted_retrieval import PromptedRetrieval
from ..experiments.specs import ExperimentSpec, Row
from .needs import Need

OBJECTS = 5  # assumed on a scene, each of which is cropped and encoded
FLOAT32 = 4  # bytes
WORKING_GB = 4.0  # assumed for the activations of a batch and the library itself
SIDES = {"cuda": 8192, "cpu": 1024, "mps": 2048}  # of the matrices that are multiplied to measure the rate


@dataclass(frozen=True)
class Work:
    """What a run does: images to read, floating-point operations, and bytes that it stores.

    Attributes:
        is_whole: Whether all images and prompts were counted.
        store: Data set and encoder of the stored features, which several tables share.
    """

    images: int = 0
    operations: float = 0
    stored: int = 0
    is_whole: bool = False
    store: tuple[str, str] = ("", "")


def work(experiment: ExperimentSpec, dataset: str, encoder: str, sizes: Mapping[str, int]) -> Work:
    """Count what an experiment does on a data set of these sizes; nothing where they or the model are not known.

    Encodings of images count, those of texts, the optimisation of MaO and detectors do not.
    """
    rows: tuple[Row, ...] = getattr(experiment, "rows", ())
    images = sum(count for part, count in sizes.items() if part != "boxes")
    if not rows or not images:
        return Work()
    shape = cost.model_shape(encoder)
    prompted = isinstance(experiment, PromptedRetrieval)
    encodings = float(images)
    if prompted:
        encodings += sizes.get("boxes", 0) * sum(_share(row, shape.blocks) for row in rows)
    encodings += OBJECTS * sizes.get("scenes", 0) * sum("boxes" in row.options for row in rows)
    stored = FLOAT32 * sizes.get("gallery", 0) * shape.cached if prompted else 0
    whole = not prompted or "boxes" in sizes
    return Work(images, encodings * shape.operations, stored, whole, (dataset, encoder))


@cache
def _share(row: Row, blocks: int) -> float:
    """What a prompt of a row costs, as a share of encoding an image; the CLS token in the last block is left out."""
    step = intervene(row.method, Prompt.box(0, 0, 1, 1), PatchMask.everything((1, 1), (1, 1)), row.options)
    return 1.0 if step.pixels is not None else (step.depth - 1) / blocks


@cache
def reading_ms() -> float:
    """Milliseconds of one core to read an image; see `cost.decode_ms`."""
    return cost.decode_ms()


@cache
def rate() -> float:
    """Floating-point operations a second: the assumed share of a float32 matrix product that is measured here."""
    device = resolve_device("auto")
    side = SIDES[device.split(":")[0]]
    matrix = torch.ones(side, side, device=device)

    def multiply() -> None:
        (matrix @ matrix)[0, 0].item()  # waits for the device

    multiply()
    return cost.REACHED * 2 * side**3 / timed(multiply)[1]


def gpu_needs(encoder: str) -> list[Need]:
    """The GPU memory that an encoder lacks; nothing without a GPU."""
    needed = FLOAT32 * cost.model_shape(encoder).parameters / 1e9 + WORKING_GB
    free = gpu_free_gb()
    if free is None or free >= needed:
        return []
    what = f"{needed:.0f} GB of GPU memory for {encoder}, {free:.0f} GB are free"
    return [Need("GPU memory", what, "End what else uses the GPU, or pass --device cpu.")]


def gpu_free_gb() -> float | None:
    """Free memory of the GPU; None without one."""
    return torch.cuda.mem_get_info()[0] / 1e9 if torch.cuda.is_available() else None


def disk_needs(folder: Path, needed: int) -> list[Need]:
    """The room that the disk of a folder lacks for so many bytes."""
    kept = sum(path.stat().st_size for path in (folder / "kept").glob("*.npz"))
    free = disk_free(folder) + kept
    what = f"{(needed - free) / 1e9:.1f} GB more on the disk of {folder}"
    return [] if free >= needed else [Need("disk", what, "Free some space, or pass --results with another disk.")]


def disk_free(folder: Path) -> int:
    """Free bytes where a folder is or will be."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
