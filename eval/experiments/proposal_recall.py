"""Recall of annotated objects by class-agnostic proposals."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.prompts import Prompt
from foir.segment.regions import MAX_REGIONS, MIN_REGIONS, MIN_SCORE, RegionProposer

from ..datasets.base import CaptionedDataset
from ..datasets.checks import OUTSIDE
from ..metrics.retrieval import image_mean
from ..report.results import Cell
from .query_prompts import usable_prompt, write_oddities
from .specs import ExperimentSpec, RunContext

MIN_IOU = 0.5  # of the boxes
SMALL = 0.05  # share of the image
DEFAULT = "kept"  # the number of proposals that is kept by default


@dataclass(frozen=True)
class ProposalRecall(ExperimentSpec):
    """Recall of the annotated objects at each number of proposals."""

    data_kind = CaptionedDataset
    depths: tuple[int, ...] = (5, 10, 20, 50)

    def measure(self, data: CaptionedDataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """Recall at IoU 0.5 for each number of proposals, and for the number kept by default; `limit` images."""
        started = time.perf_counter()
        propose = RegionProposer(encoder)
        most = max(self.depths)
        hits: dict[str, list[bool]] = {DEFAULT: [], **{str(depth): [] for depth in self.depths}}
        images, small, counts, left_out = [], [], [], 0
        for number, load in enumerate(tqdm(data.images[: context.limit], desc="images")):
            image = load()
            found = (usable_prompt(Prompt.box(*box), image.size)[0] for box in data.boxes["annotated"][number])
            usable = [box for prompt in found if prompt is not None for box in prompt.boxes]
            left_out += len(data.boxes["annotated"][number]) - len(usable)
            boxes = np.array(usable, float).reshape(-1, 4)
            regions = propose(image).top(min_count=most, max_count=most)
            proposals = np.array([region.box for region in regions], float).reshape(-1, 4)
            kept = min(max(sum(region.score > MIN_SCORE for region in regions), MIN_REGIONS), MAX_REGIONS)
            counts.append(kept)
            overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(proposals)).numpy() >= MIN_IOU
            for box, overlap in zip(boxes, overlaps, strict=True):
                for name, values in hits.items():
                    values.append(bool(overlap[: kept if name == DEFAULT else int(name)].any()))
                images.append(number)
                small.append((box[2] - box[0]) * (box[3] - box[1]) < SMALL * image.width * image.height)
        oddities = {OUTSIDE: left_out} if left_out else {}
        write_oddities(data.name, oddities)
        builder = self.cells(data, encoder, started, method="regions", oddities=oddities)
        cells = []
        for name, values in hits.items():
            label = f"{name}, {np.mean(counts):.1f} a picture" if name == DEFAULT else name
            for size, inside in (("", np.ones(len(small), bool)), ("below 5 %", np.array(small, bool))):
                if inside.any():
                    mean = image_mean(np.array(values)[inside].astype(float), np.array(images)[inside])
                    options = {"boxes": label, **({"size": size} if size else {})}
                    cell = builder.using(options=options, n=int(inside.sum()))
                    cells.append(cell.value(f"recall at IoU {MIN_IOU}", mean))
        return cells


EXPERIMENTS = (
    ProposalRecall(
        "proposals", "Objects found by mini's class-agnostic proposals", ("playroom-captions", "coco-small-captions"),
        ("mini",),
    ),
)  # fmt: skip
