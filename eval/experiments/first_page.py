"""The first page of results on the sample gallery, through the real index: how many results hold the thing."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foir.app.collections import SAMPLE
from foir.encoders.base import Encoder
from foir.images import Photo
from foir.index import Index, Item, Object
from foir.playroom import compose
from foir.prompts import Prompt
from foir.regions.recipe import RegionRecipe
from foir.search.query import CONTEXT, METHOD, Query
from foir.search.searcher import Searcher
from foir.terminal import write
from index_build.playroom import build_gallery

from ..metrics.retrieval import Mean, image_mean
from ..report.results import Cell, CellBuilder
from .specs import ExperimentSpec, RunContext

K = 10
SEED, DRAWN = 25, 60  # things
MIN_SCENES = K + 1  # that show a toy: a full page without the query picture


@dataclass(frozen=True)
class FirstPage(ExperimentSpec):
    """Hits on the first page; needs no data but the sample gallery.

    Attributes:
        rows: Name of each line, its method and its context (`foir.search.query.Query`).
    """

    data_kind = None
    rows: tuple[tuple[str, str, float], ...] = ()

    def measure(self, data: None, encoder: Encoder, context: RunContext) -> list[Cell]:
        """Results among the first `K`, without the query picture, that hold the same toy, or its category.

        `limit` is the number of things. Intervals are over the pictures that are pointed at.
        """
        index = sample_index(context.results / "sample", encoder)
        drawn, count = draw_things(index, min(DRAWN, context.limit or DRAWN))
        write(f"{len(drawn)} of the {count} things whose toy {MIN_SCENES} scenes show, drawn by the seed {SEED}.")
        searcher, started = Searcher(index, encoder), time.perf_counter()
        hits = np.array([self._hits(searcher, index, thing) for thing in drawn], float)
        seconds = round((time.perf_counter() - started) / len(self.rows), 3)
        builder = CellBuilder(self.name, "playroom", encoder.name, {"encoder": encoder.revision}, unit="", scale=1)
        builder = builder.using(n=len(drawn), seconds=seconds)
        images = np.array([thing.item for thing in drawn])
        cells: list[Cell] = []
        for place, metric in enumerate(("the thing", "its category")):
            bases: dict[str, Mean] = {}
            for row, (name, method, weight) in enumerate(self.rows):
                mean = image_mean(hits[:, row, place], images)
                cell = builder.using(method=method, options={"row": name, "context": weight})
                cells += cell.compared(f"hits@{K}, {metric}", mean, bases)
                bases[name] = mean
        return cells

    def _hits(self, searcher: Searcher, index: Index, thing: Object) -> list[tuple[int, int]]:
        """Results of each row that hold the same toy, and those that hold its category."""
        item = index.item(index.row(thing.item))
        image = searcher.open(Photo(compose("gallery", scene_number(item)).image))
        counts = []
        for _, method, context in self.rows:
            query = Query(image, Prompt.box(*thing.box), method=method, context=context, k=K + 1)
            found = [index.objects(hit.id) for hit in searcher.search(query).excluding(item.id, K).items]
            same = sum(any(other.instance == thing.instance for other in objects) for objects in found)
            alike = sum(any(other.category == thing.category for other in objects) for objects in found)
            counts.append((same, alike))
        return counts


def sample_index(folder: Path, encoder: Encoder) -> Index:
    """The sample gallery with regions of today's recipe: the one that foir brings, else one that is built and kept.

    Args:
        folder: Where it is kept.
        encoder: Of the index.
    """
    for known in (SAMPLE, folder):
        if (known / "manifest.json").exists():
            index = Index.open(known)
            space = index.space("image")
            is_own = (space.encoder, space.revision) == (encoder.name, encoder.revision)
            if is_own and index.regions is not None and _is_todays(index.regions.recipe):
                return index
    build_gallery(folder, encoder=encoder.name)
    return Index.open(folder)


def _is_todays(recipe: str) -> bool:
    """Whether a stored recipe is the default one; each index has a mean of its own."""
    return RegionRecipe.from_json(recipe).model_copy(update={"mean": None}) == RegionRecipe()


def draw_things(index: Index, count: int) -> tuple[list[Object], int]:
    """Objects to point at, drawn by `SEED` among those whose toy enough scenes show, and the number of those."""
    objects = [thing for item in index.items() for thing in index.objects(item.id)]
    scenes = Counter(toy for toy, _ in {(thing.instance, thing.item) for thing in objects})
    findable = [thing for thing in objects if scenes[thing.instance] >= MIN_SCENES]
    order = np.random.default_rng(SEED).permutation(len(findable))[:count]
    return [findable[place] for place in order], len(findable)


def scene_number(item: Item) -> int:
    """The number of a picture's scene, which its file is named after."""
    return int(re.sub(r"\D", "", item.file))


EXPERIMENTS = (
    FirstPage(
        "first-page", "Hits on the first page of the sample gallery, through the real index", (), ("mini",),
        (("whole picture", "cbir", 1.0), ("no regions", METHOD, 1.0), ("default", METHOD, CONTEXT)),
    ),
)  # fmt: skip
