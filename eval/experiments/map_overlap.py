"""Whether MaO's objective points at the query: overlap of maps with an instance's mask, before and after Stage B."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from foir.encoders.base import Encoder
from foir.small_objects import legrad, mao
from foir.small_objects.crops import DetectedObject, ObjectCrop, crop_objects
from foir.small_objects.embed import embed_images, mode_for
from foir.small_objects.overlap import Targets

from ..datasets.base import InstanceDataset, InstanceQuery, Scene
from ..metrics.retrieval import image_mean
from ..report.results import Cell
from .specs import ExperimentSpec, RunContext


@dataclass(frozen=True)
class MapOverlap(ExperimentSpec):
    """Overlap (soft IoU) of a crop's map with the mask of the instance on it, and cosine with the instance's queries.

    The map is that of three vectors: the crop's own feature, the feature of a query image (mean over these), and the
    vector that Stage B makes of this crop alone.
    """

    data_kind = InstanceDataset

    def measure(self, data: InstanceDataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """One value for each scene whose instance's area is annotated; intervals are over instances."""
        started = time.perf_counter()
        queries: defaultdict[str, list[InstanceQuery]] = defaultdict(list)
        for query in data.queries:
            queries[query.instance].append(query)
        overlaps, cosines, instances = [], [], []
        for scene in tqdm(data.scenes[: context.limit], desc="scenes"):
            for instance, area in scene.areas.items():
                if not area or not queries[instance]:
                    continue
                crops = crop_objects(scene.load(), [_nearest(scene, area)], encoder.size)
                if crops:
                    asked = embed_images(encoder, [query.load() for query in queries[instance]])
                    overlap, cosine = _measure(encoder, crops[0], asked)
                    overlaps.append(overlap)
                    cosines.append(cosine)
                    instances.append(instance)
        builder = self.cells(data, encoder, started, method="mao", n=len(instances), unit="", scale=1)
        images = np.unique(instances, return_inverse=True)[1]
        cells: list[Cell] = []
        for metric, values in (("overlap with the mask", overlaps), ("cosine with the query", cosines)):
            means = {name: image_mean(np.array([row[name] for row in values]), images) for name in values[0]}
            for name, mean in means.items():
                baselines = {} if name == "crop" else {"crop": means["crop"]}
                cells += builder.using(options={"vector": name}).compared(metric, mean, baselines)
        return cells


def _nearest(scene: Scene, area: float) -> DetectedObject:
    """The object of a scene whose mask has nearly the instance's area."""
    return min(scene.objects(), key=lambda item: abs(float(np.asarray(item.mask).mean()) - area))


def _measure(encoder: Encoder, crop: ObjectCrop, queries: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Overlap and cosine of each vector; that of the query with itself is left out."""
    features = legrad.encode_crops(encoder, encoder.pixels([crop.image]))
    mask = torch.from_numpy(crop.mask)[None].to(features.vectors)
    targets = Targets.of(mask, features.grid)
    owner = torch.zeros(1, dtype=torch.int64, device=mask.device)
    vectors: dict[str, Sequence[Tensor]] = {
        "crop": [features.vectors],
        "query": [query[None] for query in queries],
        "optimised": [mao.optimise(features, mask, owner, mode_for(encoder))],
    }
    overlap = {
        name: float(np.mean([float(targets.soft_iou(targets.normalise(features.maps(v)))[0]) for v in some]))
        for name, some in vectors.items()
    }
    cosine = {name: float((queries @ vectors[name][0][0]).mean()) for name in ("crop", "optimised")}
    return overlap, cosine


EXPERIMENTS = (
    MapOverlap(
        "needles-maps", "Overlap of MaO's maps with the toys, and cosine with their queries, before and after",
        ("needles-dev", "needles-playroom"), ("mini",),
    ),
)  # fmt: skip
