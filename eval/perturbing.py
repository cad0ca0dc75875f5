"""Recall between words and pictures whose queries are pulled at objects: a look a picture, shared by all rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eval import papers
from eval.cells import Cell
from eval.datasets import Captioned
from eval.metrics import Mean, image_mean
from eval.recall import best_scores, harmonic_mean, picture_ranks, size_bins, text_ranks
from eval.tables import Perturbed, Row
from eval.text import word_vectors
from foir.crossmodal import Crossmodal, Match
from foir.crossmodal.qperturb import Perturbation
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt

BATCH = 8
SHORTLIST = 64  # best by vectors, in either direction, that the matching head scores again
FAR = -100.0  # what all others score then
SMALL = "0-10%"
# The paper's names of what it prints; where a table says R@1 its numbers are those of mR@1 (specification, section 5).
PRINTED = {"mR@1": "R@1 as printed (magnitudes fit mR@1, see qpert.md)"}
_Pairs = dict[tuple[int, int], float]  # logits of (text, picture)


def run(experiment: Perturbed, data: Captioned, model: Crossmodal, *, limit: int | None = None) -> list[Cell]:
    """R@k both ways for each row, overall and by the size of the largest object; `limit` query pictures.

    Raises:
        Unavailable: The model has no words, or nothing in it can be pulled at.
    """
    started = time.perf_counter()
    words = word_vectors(model, data.captions)
    owner = np.repeat(np.arange(len(data.pictures)), [len(said) for said in data.captions])
    rows = [row for row in experiment.rows if _can(row, data)]
    seen = _Seen(rows)
    for start, tokens, sizes in _batches(data, model):
        seen.look(model, data, start, tokens, sizes)
    scores = {row: best_scores(words, np.concatenate(seen.vectors[row])) for row in rows}
    for row in rows:
        if row.method == "oes":
            scores[row] += seen.object_scores(words)
    bins = size_bins(data.boxes[data.binned], seen.sizes) if data.binned in data.boxes else None
    matched = _matched(data, model, rows, scores)
    asked = len(data.pictures) if limit is None else min(limit, len(data.pictures))
    texts = owner < asked
    seconds = round(time.perf_counter() - started, 1)
    cells: list[Cell] = []
    bases: dict[tuple[str, ...], Mean] = {}
    for row in experiment.rows:
        ranks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if row in rows:
            by_text, by_picture = matched(row)
            ranks["t2i"] = text_ranks(by_text[texts], owner[texts]), owner[texts]
            ranks["i2t"] = picture_ranks(by_picture, owner)[:asked], np.arange(asked)
        for direction in ("t2i", "i2t"):
            about: dict[str, Any] = {
                "experiment": experiment.name,
                "dataset": data.name,
                "encoder": model.name,
                "method": row.method,
                "seconds": seconds,
                "revisions": {"encoder": model.revision},
            }
            options = {**row.options, "direction": direction}
            if direction not in ranks:
                cells += _not_run(experiment, row, about, options)
                continue
            rank, images = ranks[direction]
            for metric, part, mean, n in _means(experiment.ks, rank, images, bins):
                shown = options | part
                published = _published(experiment, row, about, direction, metric, part)
                cells.append(_cell(about | {"options": shown, "n": n}, metric, mean, published))
                base = bases.setdefault((direction, metric, *part.values()), mean)
                if base is not mean:
                    name = f"{metric} minus {experiment.rows[0].method}"
                    cells.append(_cell(about | {"options": shown, "n": n}, name, mean.minus(base), None))
    return cells + (_chosen(cells) if experiment.chosen else [])


class _Seen:
    """What one look at every picture gives each row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.vectors: dict[Row, list[np.ndarray]] = {row: [] for row in rows}
        self.objects: list[np.ndarray] = []  # of each picture, the vectors of its objects
        self.sizes: list[tuple[int, int]] = []

    def look(
        self, model: Crossmodal, data: Captioned, start: int, tokens: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> None:
        """Add a batch."""
        self.sizes += sizes
        pulls: dict[tuple[Any, ...], Perturbation] = {}
        plain = model.vectors(tokens).cpu().numpy()
        for row, made in self.vectors.items():
            if row.method != "qpert":
                made.append(plain)
                continue
            pull = pulled(model, data, row, start, tokens, sizes, pulls)
            made.append(model.vectors(tokens, pull).cpu().numpy())
        wanted = next((row for row in self.vectors if row.method == "oes"), None)
        if wanted is not None:
            for i, size in enumerate(sizes):
                regions = _regions(model, data, wanted, start + i, size)
                self.objects.append(object_vectors(model, tokens[[i]], regions))

    def object_scores(self, words: np.ndarray) -> np.ndarray:
        """Of each text and picture the largest similarity to one of its objects, 0 where it has none, [t, n]."""
        each = [(words @ own.T).max(1) if len(own) else np.zeros(len(words)) for own in self.objects]
        return np.stack(each, 1)


def pulled(
    model: Crossmodal, data: Captioned, row: Row, start: int, tokens: Tensor, sizes: Sequence[tuple[int, int]],
    pulls: dict[tuple[Any, ...], Perturbation],
) -> Perturbation:  # fmt: skip
    """A row's perturbation of a batch; rows with equal subspaces, kept in `pulls`, share them."""
    options = {"theta": model.theta, "strength": model.strength, "weight": "1", "mode": "paper", **row.options}
    key = (options["boxes"], options["theta"], options["mode"])
    if key not in pulls:
        regions = [_regions(model, data, row, start + i, size) for i, size in enumerate(sizes)]
        pulls[key] = model.perturbation(tokens, regions, theta=options["theta"], mode=options["mode"])
    return replace(pulls[key], strength=options["strength"], weight=options["weight"])


def object_vectors(model: Crossmodal, tokens: Tensor, regions: Sequence[PatchMask]) -> np.ndarray:
    """Each object as if its patches were the whole picture, float32 [objects * q, dim] (the paper's object embeddings).

    How the paper pools a region is not stated; here the queries see the patches that the box touches. A model that
    pools by its CLS token keeps that token.
    """
    kept = []
    for region in regions:
        inside = np.flatnonzero(region.patches.reshape(-1)) + model.special
        places = np.concatenate([np.arange(0 if model.encoder is None else model.special), inside])
        kept.append(model.vectors(tokens[:, torch.from_numpy(places).to(tokens.device)])[0].cpu().numpy())
    return np.concatenate(kept) if kept else np.zeros((0, 0), np.float32)


def _matched(
    data: Captioned, model: Crossmodal, rows: Sequence[Row], scores: Mapping[Row, np.ndarray]
) -> Callable[[Row], tuple[np.ndarray, np.ndarray]]:
    """A row's scores [texts, pictures] to rank pictures by, and those to rank texts by, after the matching head."""
    match = model.match
    if match is None:
        return lambda row: (scores[row], scores[row])
    shortlists = {row: _shortlists(scores[row]) for row in rows}
    plain: _Pairs = {}
    own: dict[Row, _Pairs] = {row: {} for row in rows if row.options.get("mode") == "legacy"}
    wanted = np.logical_or.reduce([a | b for row in rows if row not in own for a, b in [shortlists[row]]])
    texts = [text for said in data.captions for text in said]
    for start, tokens, sizes in _batches(data, model):
        for i, size in enumerate(sizes):
            picture = start + i
            plain |= _logits(match, tokens[[i]], texts, np.flatnonzero(wanted[:, picture]), picture, None)
            for row, found in own.items():  # what was released perturbs the matching head's queries too
                pull = pulled(model, data, row, picture, tokens[[i]], [size], {})
                near = np.logical_or(*shortlists[row])[:, picture]
                found |= _logits(match, tokens[[i]], texts, np.flatnonzero(near), picture, pull)

    def ranked(row: Row) -> tuple[np.ndarray, np.ndarray]:
        known = own.get(row, plain)
        made = []
        for near in shortlists[row]:
            final = np.full(scores[row].shape, FAR)
            for text, picture in zip(*np.nonzero(near), strict=True):
                final[text, picture] = known[int(text), int(picture)] + scores[row][text, picture]
            made.append(final)
        return made[0], made[1]

    return ranked


def _shortlists(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures are among the best of each text, and which texts among the best of each picture, bool [t, n]."""
    made = []
    for axis in (1, 0):
        near = np.zeros(scores.shape, bool)
        count = min(SHORTLIST, scores.shape[axis])
        best = np.argpartition(-scores, count - 1, axis)
        np.put_along_axis(near, best[:, :count] if axis == 1 else best[:count], True, axis)
        made.append(near)
    return made[0], made[1]


def _logits(
    match: Match, tokens: Tensor, texts: Sequence[str], near: np.ndarray, picture: int, pull: Perturbation | None
) -> _Pairs:
    found: _Pairs = {}
    for start in range(0, len(near), SHORTLIST):
        part = near[start : start + SHORTLIST].tolist()
        rows = torch.zeros(len(part), dtype=torch.long, device=tokens.device)
        own = None if pull is None else pull.take(rows)
        logits = match(tokens[rows], [texts[text] for text in part], own)
        found |= {(text, picture): float(logit) for text, logit in zip(part, logits, strict=True)}
    return found


def _batches(data: Captioned, model: Crossmodal) -> Iterator[tuple[int, Tensor, list[tuple[int, int]]]]:
    for start in tqdm(range(0, len(data.pictures), BATCH), desc="pictures"):
        images = [load() for load in data.pictures[start : start + BATCH]]
        yield start, model.look(images), [image.size for image in images]


def _regions(model: Crossmodal, data: Captioned, row: Row, picture: int, size: tuple[int, int]) -> list[PatchMask]:
    boxes = data.boxes[row.options["boxes"]][picture]
    return [rasterise(Prompt.box(*box).fit(size), size, model.grid) for box in boxes]


def _can(row: Row, data: Captioned) -> bool:
    return row.method == "plain" or (row.method in ("qpert", "oes") and row.options["boxes"] in data.boxes)


def _means(
    ks: Sequence[int], rank: np.ndarray, images: np.ndarray, bins: np.ndarray | None
) -> Iterator[tuple[str, dict[str, Any], Mean, int]]:
    """Metric, what part of the items it is of, its value, and how many items."""
    for k in ks:
        yield f"R@{k}", {}, image_mean(rank < k, images), len(rank)
    if bins is None:
        return
    for k in ks:
        filled = len(np.unique(bins[np.unique(images)]))
        yield f"mR@{k}", {"bins": filled}, harmonic_mean(rank < k, images, bins), len(rank)
    for number in np.unique(bins[images]).tolist():
        inside = bins[images] == number
        part = {"bin": SMALL if number == 0 else f"{10 * number}-{10 * number + 10}%"}
        yield "R@1", part, image_mean(rank[inside] < 1, images[inside]), int(inside.sum())


def _chosen(cells: Sequence[Cell]) -> list[Cell]:
    """The best of a grid once more, under a metric of its own; none where no size is known."""
    grid = [c for c in cells if c.metric == "mR@1" and c.method == "qpert" and c.options["direction"] == "t2i"]
    best = max(grid, key=lambda cell: cell.value or 0.0, default=None)
    return [] if best is None else [replace(best, metric="mR@1, best of the grid")]


def _not_run(experiment: Perturbed, row: Row, about: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Cell]:
    """A row of another paper, or one whose boxes are not there."""
    for metric in (f"R@{k}" for k in experiment.ks):
        theirs = _published(experiment, row, about, str(options["direction"]), metric, {})
        status = "not_run" if row.method in ("plain", "qpert", "oes") else "published_only"
        if status == "not_run" or theirs is not None:
            yield Cell(**about, options=options, metric=metric, value=None, published=theirs, status=status)


def _published(
    experiment: Perturbed, row: Row, about: Mapping[str, Any], direction: str, metric: str, part: Mapping[str, Any]
) -> float | None:
    if row.published is None or part.get("bin", SMALL) != SMALL:
        return None
    name, variant = row.published
    metric = f"{metric} (area<10%)" if "bin" in part else metric
    if variant and direction != "t2i":
        return None
    names = (name, variant or direction.upper())
    for table in experiment.tables:
        for written in (metric, PRINTED.get(metric, metric)):
            found = papers.value("qpert", table, about["dataset"], about["encoder"], names, written)
            if found is not None:
                return found
    return None


def _cell(about: Mapping[str, Any], metric: str, mean: Mean, published: float | None) -> Cell:
    value, low, high = (100 * part for part in (mean.value, mean.low, mean.high))
    return Cell(**about, metric=metric, value=value, low=low, high=high, published=published)
