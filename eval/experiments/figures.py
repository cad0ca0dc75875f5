"""The PHS paper's figures of pictures: where attention lies, and what is found with and without the scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from eval.datasets import Dataset, Query
from eval.experiments.gallery import gallery
from eval.experiments.pointing import query_prompts
from eval.experiments.results_cache import ResultsCache
from eval.metrics.ranking import rank
from foir.encoders.base import Encoder, Features
from foir.errors import Unavailable
from foir.methods import intervene
from foir.patches import PatchMask
from foir.search import explain

H_ON, FEW, MORE, FOUND = 5, 4, 12, 5
SMALL, LARGE = 0.01, 0.25  # share of the picture of the objects that are drawn


def draw(what: str, dataset: Dataset, encoder: Encoder, store: ResultsCache, *, limit: int | None = None) -> Image.Image:
    """One of `FIGURES` on the first fitting queries of a data set, or on the first `limit` of them."""
    return FIGURES[what](dataset, encoder, store, limit)


def _attention(dataset: Dataset, encoder: Encoder, store: ResultsCache, limit: int | None, count: int = FEW) -> Image.Image:
    """The object outlined, then attention without a prompt, foveal, and of the heads that PHS keeps."""
    lines = []
    for query, number in _chosen(dataset, limit or count):
        image, mask, made = _features(dataset, encoder, query, number, ("cbir", "foveal", "phs"))
        heats = [explain.overlay(image, explain.query_heat(encoder, made, i)) for i in range(3)]
        lines.append([explain.outline(image, mask), *heats])
    return _sheet(lines)


def _more_attention(dataset: Dataset, encoder: Encoder, store: ResultsCache, limit: int | None) -> Image.Image:
    return _attention(dataset, encoder, store, limit, MORE)


def _heads(dataset: Dataset, encoder: Encoder, store: ResultsCache, limit: int | None) -> Image.Image:
    """The object outlined, then every head of the last block alone."""
    lines = []
    for query, number in _chosen(dataset, limit or FEW):
        image, mask, made = _features(dataset, encoder, query, number, ("cbir",))
        heads = [explain.overlay(image, explain.head_heat(encoder, made, head)) for head in range(encoder.heads)]
        lines.append([explain.outline(image, mask), *heads])
    return _sheet(lines)


def _selected(dataset: Dataset, encoder: Encoder, store: ResultsCache, limit: int | None) -> Image.Image:
    """The object outlined, then the attention of the heads that PHS keeps."""
    lines = []
    for query, number in _chosen(dataset, limit or FEW):
        image, mask, made = _features(dataset, encoder, query, number, ("phs",))
        lines.append([explain.outline(image, mask), explain.overlay(image, explain.query_heat(encoder, made))])
    return _sheet(lines)


def _context(dataset: Dataset, encoder: Encoder, store: ResultsCache, limit: int | None) -> Image.Image:
    """For each method a line: the object outlined, then the pictures found, framed green where they hold its like."""
    kept = gallery(encoder, dataset, store)
    lines = []
    for query, number in _chosen(dataset, limit or 1):
        methods = ("cbir", "mask", "crop", "phs")
        image, mask, made = _features(dataset, encoder, query, number, methods)
        own = query.image if dataset.leave_one_out else -1
        found = rank(encoder, kept, "query", made.gates, made.vectors.cpu().numpy(), FOUND + 1)
        for rows in found:
            shown = [row for row in rows.tolist() if row != own][:FOUND]
            hits = [_framed(dataset.gallery[row](), dataset.labels[row, query.category]) for row in shown]
            lines.append([explain.outline(image, mask), *hits])
    return _sheet(lines)


FIGURES: Mapping[str, Callable[[Dataset, Encoder, ResultsCache, int | None], Image.Image]] = {
    "attention": _attention,
    "more_attention": _more_attention,
    "heads": _heads,
    "selected": _selected,
    "context": _context,
}


def _chosen(dataset: Dataset, count: int) -> list[tuple[Query, int]]:
    """The first object of a fitting size of each of the first pictures that have one."""
    chosen: dict[int, tuple[Query, int]] = {}
    for number, query in enumerate(dataset.queries):
        if len(chosen) == count:
            break
        if query.image not in chosen:
            width, height = dataset.query_images[query.image]().size
            x0, y0, x1, y1 = query.prompt.boxes[0]
            if SMALL <= (x1 - x0) * (y1 - y0) / (width * height) <= LARGE:
                chosen[query.image] = query, number
    if not chosen:
        raise Unavailable(f"No object of {dataset.name} covers {SMALL:.0%} to {LARGE:.0%} of its picture.")
    return list(chosen.values())


def _features(
    dataset: Dataset, encoder: Encoder, query: Query, number: int, methods: Sequence[str]
) -> tuple[Image.Image, PatchMask, Features]:
    image = dataset.query_images[query.image]()
    ((prompt, mask),) = query_prompts(query, number, image.size, encoder.grid)
    heads = {"h_on": min(H_ON, encoder.heads)}
    steps = [intervene(method, prompt, mask, heads if method == "phs" else {}) for method in methods]
    return image, mask, encoder.features(image, steps)


def _framed(image: Image.Image, right: np.bool_) -> Image.Image:
    edge = max(4, max(image.size) // 40)
    framed = Image.new(
        "RGB", (image.width + 2 * edge, image.height + 2 * edge), (40, 150, 70) if right else (200, 60, 50)
    )
    framed.paste(image, (edge, edge))
    return framed


def _sheet(lines: Sequence[Sequence[Image.Image]]) -> Image.Image:
    strips = [explain.side_by_side(line) for line in lines]
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height + 6 for s in strips) - 6), "white")
    y = 0
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height + 6
    return sheet
