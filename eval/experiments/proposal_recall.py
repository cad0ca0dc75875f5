"""How many annotated objects class-free proposals find."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from eval.datasets import Captioned
from eval.experiments.specs import Proposing
from eval.metrics.retrieval import image_mean
from eval.report.results import Cell
from foir.encoders.base import Encoder
from foir.segment.regions import MAX_REGIONS, MIN_REGIONS, MIN_SCORE, RegionProposer

FOUND = 0.5  # IoU of the boxes
SMALL = 0.05  # share of the picture


def run(experiment: Proposing, data: Captioned, encoder: Encoder, *, limit: int | None = None) -> list[Cell]:
    """Recall at IoU 0.5 of so many proposals, and of those that are kept by default; `limit` pictures."""
    started = time.perf_counter()
    grow = RegionProposer(encoder)
    most = max(experiment.depths)
    rows: dict[str, list[bool]] = {"kept": [], **{str(depth): [] for depth in experiment.depths}}
    owner, small, counts = [], [], []
    for number, load in enumerate(tqdm(data.pictures[:limit], desc="pictures")):
        image, boxes = load(), np.array(data.boxes["annotated"][number], float).reshape(-1, 4)
        found = grow(image).top(min_count=most, max_count=most)
        proposed = np.array([region.box for region in found], float).reshape(-1, 4)
        kept = min(max(sum(region.score > MIN_SCORE for region in found), MIN_REGIONS), MAX_REGIONS)
        counts.append(kept)
        overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(proposed)).numpy() >= FOUND
        for box, overlap in zip(boxes, overlaps, strict=True):
            for name, values in rows.items():
                values.append(bool(overlap[: kept if name == "kept" else int(name)].any()))
            owner.append(number)
            small.append((box[2] - box[0]) * (box[3] - box[1]) < SMALL * image.width * image.height)
    cells = []
    seconds, pictures = round(time.perf_counter() - started, 1), np.array(owner)
    for name, values in rows.items():
        for size, inside in (("", np.ones(len(small), bool)), ("below 5 %", np.array(small, bool))):
            if not inside.any():
                continue
            about: dict[str, Any] = {"boxes": name if name != "kept" else f"kept, {np.mean(counts):.1f} a picture"}
            mean = image_mean(np.array(values)[inside].astype(float), pictures[inside])
            cells.append(
                Cell(
                    experiment.name, data.name, encoder.name, "regions", about | ({"size": size} if size else {}),
                    f"recall at IoU {FOUND}", 100 * mean.value, 100 * mean.low, 100 * mean.high,
                    n=int(inside.sum()), seconds=seconds, revisions={"encoder": encoder.revision},
                )
            )  # fmt: skip
    return cells
