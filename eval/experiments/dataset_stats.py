"""What the papers state of their data sets: sizes, objects on an image (PHS paper, Figure 3), size of the objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..datasets.base import Dataset, InstanceDataset
from ..metrics.retrieval import image_mean
from ..report import published
from ..report.results import Cell, CellBuilder
from .query_features import select_queries
from .specs import ExperimentSpec, RunContext, size_label

MANY = 20  # larger counts share a cell
NOISE = 40  # m of A9 and A10 in pixels
RELATIVE = ("noise", "m relative to mean width/height")  # the paper's names of it


@dataclass(frozen=True)
class _Stats(ExperimentSpec):
    """Needs no encoder."""

    encoders: tuple[str, ...] = ("none",)

    def load_model(self, name: str, context: RunContext) -> None:
        """No model is needed."""

    def _sizes(self, data: Dataset | InstanceDataset, builder: CellBuilder) -> list[Cell]:
        """A cell for each size of the data set."""
        return [
            builder.using(unit="", method="size").value(size_label(name), count, published.fact(data.name, name))
            for name, count in data.sizes.items()
        ]


@dataclass(frozen=True)
class DatasetStats(_Stats):
    """The data set's sizes, the shares of query images with so many objects, and the noise of jittered boxes."""

    def measure(self, data: Dataset, model: None, context: RunContext) -> list[Cell]:
        """The share of query images with 1, 2, ... objects; images without queries do not count."""
        counts = np.bincount([query.image for _, query in select_queries(data, context.limit)])
        counts = counts[counts > 0]
        builder = CellBuilder(self.name, data.name, "none", {}, "count", n=len(counts))
        cells = self._sizes(data, builder)
        for objects in range(1, MANY + 1):
            inside = counts >= MANY if objects == MANY else counts == objects
            cell = builder.using(options={"objects": f"{MANY}+" if objects == MANY else str(objects)})
            theirs = published.fact(data.name, "single_object_query_share_percent") if objects == 1 else None
            mean = image_mean(inside.astype(float), np.arange(len(counts)))
            cells.append(cell.value("share of pictures", mean, theirs))
        loaders = data.query_images[: context.limit]
        sizes = np.array([load().size for load in tqdm(loaders, desc="images")])
        noise = builder.using(method="noise", options={"m": NOISE}, n=len(sizes))
        relative = float(100 * (NOISE / sizes.mean(0)).mean())
        return [
            *cells,
            noise.value("of mean width and height", relative, published.fact(data.name, "percent", RELATIVE)),
        ]


@dataclass(frozen=True)
class InstanceStats(_Stats):
    """The sizes of a data set of instances, and how many objects of what size its scenes have."""

    data_kind = InstanceDataset

    def measure(self, data: InstanceDataset, model: None, context: RunContext) -> list[Cell]:
        """Counts of the whole data set; objects of the first `limit` scenes."""
        scenes = data.scenes[: context.limit]
        builder = CellBuilder(self.name, data.name, "none", {}, "size", n=len(scenes), unit="")
        shares: list[float] = []
        for scene in tqdm(scenes, desc="scenes"):
            width, height = scene.load().size
            for item in scene.objects():
                x0, y0, x1, y1 = item.box
                area = (x1 - x0) * (y1 - y0) if item.mask is None else int(item.mask.sum())
                shares.append(100 * area / (width * height))
        values = {"test annotations": len(shares), "annotated objects per image": len(shares) / len(scenes)}
        if shares:
            values["mean object size percent of image"] = float(np.mean(shares))
        theirs = {name: published.fact(data.name, name) for name in values if len(scenes) == len(data.scenes)}
        cells = [builder.value(name, value, theirs.get(name)) for name, value in values.items()]
        return [*self._sizes(data, builder), *cells]
