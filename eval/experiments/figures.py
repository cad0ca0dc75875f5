"""The PHS paper's figures: where attention lies, and results with and without the scene around the object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageOps

from foir.encoders.base import Encoder, Features
from foir.errors import Unavailable, os_errors
from foir.methods import intervene
from foir.patches import PatchMask
from foir.search import explain
from foir.terminal import write

from ..datasets.base import Dataset, Query
from ..datasets.checks import is_outside
from ..metrics.ranking import rank
from ..report.results import Cell
from .gallery import encode_gallery
from .query_prompts import query_prompts
from .specs import ExperimentSpec, RunContext, file_stem

H_ON, FEW, MANY, RESULTS = 5, 4, 12, 5
SMALL, LARGE = 0.01, 0.25  # area of the shown objects as a share of the image
RIGHT, WRONG = (40, 150, 70), (200, 60, 50)
GAP = 6  # pixels between the lines of a figure


@dataclass(frozen=True)
class Figure(ExperimentSpec):
    """A figure of images.

    Attributes:
        figure: A key of `FIGURES`.
    """

    figure: str

    def measure(self, data: Dataset, encoder: Encoder, context: RunContext) -> list[Cell]:
        """Save the figure in the results folder; there are no cells.

        It shows the first suitable queries of the data set, or the first `limit` of them.
        """
        path = context.results / f"{file_stem(self.name, data.name, encoder.name)}.png"
        figure = FIGURES[self.figure](data, encoder, context)
        with os_errors(f"The figure {path} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.save(path)
        write(f"{path} drawn")
        return []


def _attention(data: Dataset, encoder: Encoder, context: RunContext, methods: Sequence[str], count: int) -> Image.Image:
    """The object outlined, then the attention of each method."""
    lines = []
    for query, number in _suitable_queries(data, context.limit or count):
        image, mask, features = _features(data, encoder, query, number, methods)
        heats = [explain.query_heat(encoder, features, i) for i in range(len(methods))]
        lines.append([explain.outline(image, mask.box), *(explain.overlay(image, heat) for heat in heats)])
    return _stack(lines)


def _heads(data: Dataset, encoder: Encoder, context: RunContext) -> Image.Image:
    """The object outlined, then each head of the last block."""
    lines = []
    for query, number in _suitable_queries(data, context.limit or FEW):
        image, mask, features = _features(data, encoder, query, number, ("cbir",))
        heats = [explain.head_heat(encoder, features, head) for head in range(encoder.heads)]
        lines.append([explain.outline(image, mask.box), *(explain.overlay(image, heat) for heat in heats)])
    return _stack(lines)


def _context(data: Dataset, encoder: Encoder, context: RunContext) -> Image.Image:
    """A line for each method: the object outlined, then the results, with a green frame where they are correct."""
    gallery = encode_gallery(encoder, data, context.cache)
    lines = []
    for query, number in _suitable_queries(data, context.limit or 1):
        image, mask, features = _features(data, encoder, query, number, ("cbir", "mask", "crop", "phs"))
        excluded = query.image if data.leave_one_out else -1
        results = rank(encoder, gallery, "query", features.gates, features.vectors.cpu().numpy(), RESULTS + 1)
        for rows in results:
            top = [row for row in rows.tolist() if row != excluded][:RESULTS]
            frames = [_frame(data.gallery[row](), bool(data.labels[row, query.category])) for row in top]
            lines.append([explain.outline(image, mask.box), *frames])
    return _stack(lines)


FIGURES: Mapping[str, Callable[[Dataset, Encoder, RunContext], Image.Image]] = {
    "attention": partial(_attention, methods=("cbir", "foveal", "phs"), count=FEW),
    "more_attention": partial(_attention, methods=("cbir", "foveal", "phs"), count=MANY),
    "heads": _heads,
    "selected": partial(_attention, methods=("phs",), count=FEW),
    "context": _context,
}


def _suitable_queries(dataset: Dataset, count: int) -> list[tuple[Query, int]]:
    """The first object of a suitable size of each of the first images that have one, and its query's number."""
    chosen: dict[int, tuple[Query, int]] = {}
    for number, query in enumerate(dataset.queries):
        if len(chosen) == count:
            break
        if query.image not in chosen:
            width, height = dataset.query_images[query.image]().size
            x0, y0, x1, y1 = query.prompt.boxes[0]
            if is_outside(query.prompt.boxes[0], (width, height)):
                continue
            if SMALL <= (x1 - x0) * (y1 - y0) / (width * height) <= LARGE:
                chosen[query.image] = query, number
    if not chosen:
        raise Unavailable(f"No object of {dataset.name} covers {SMALL:.0%} to {LARGE:.0%} of its image.")
    return list(chosen.values())


def _features(
    dataset: Dataset, encoder: Encoder, query: Query, number: int, methods: Sequence[str]
) -> tuple[Image.Image, PatchMask, Features]:
    image = dataset.query_images[query.image]()
    ((prompt, mask),), _ = query_prompts(query, number, image.size, encoder.grid)
    heads = {"h_on": min(H_ON, encoder.heads)}
    interventions = [intervene(method, prompt, mask, heads if method == "phs" else {}) for method in methods]
    return image, mask, encoder.features(image, interventions)


def _frame(image: Image.Image, right: bool) -> Image.Image:
    return ImageOps.expand(image, max(4, max(image.size) // 40), RIGHT if right else WRONG)


def _stack(lines: Sequence[Sequence[Image.Image]]) -> Image.Image:
    strips = [explain.side_by_side(line) for line in lines]
    height = sum(strip.height + GAP for strip in strips) - GAP
    stack = Image.new("RGB", (max(strip.width for strip in strips), height), "white")
    y = 0
    for strip in strips:
        stack.paste(strip, (0, y))
        y += strip.height + GAP
    return stack
