"""Ranks of texts and pictures for each other under every row's perturbation; a look at a picture serves many rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eval.datasets import CaptionedDataset
from eval.experiments.specs import Row
from eval.metrics.recall import max_similarity, image_ranks, text_ranks
from foir.image_text import ImageTextModel, Match
from foir.patches import PatchMask, rasterise
from foir.perturbation.query_perturbation import Perturbation
from foir.prompts import Prompt

BATCH = 8
SHORTLIST = 64  # best by vectors, in either direction, that the matching head scores again
FAR = -100.0  # what all others score then
MEMORY = 4e9  # bytes of scores that are kept at once; more rows than that look at the pictures again
_Pairs = dict[tuple[int, int], float]  # logits of (text, picture)
Ranks = tuple[np.ndarray, np.ndarray]  # of each text its picture's rank, of each picture its best text's


def ranks(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], words: np.ndarray, owner: np.ndarray
) -> tuple[dict[Row, Ranks], list[tuple[int, int]]]:
    """Rank everything for every row.

    Args:
        data: Pictures, captions, boxes.
        model: Opened.
        rows: What is measured: "plain", "qpert" or "oes".
        words: The texts' vectors, float32 [texts, dim].
        owner: Picture of each text.

    Returns:
        Ranks of each row, and the pictures' sizes.
    """
    found: dict[Row, Ranks] = {}
    sizes: list[tuple[int, int]] = []
    at_once = max(1, int(MEMORY / (4 * len(words) * len(data.images))))
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        scores, sizes = _scores(data, model, some, words)
        matched = _matched(data, model, some, scores)
        for row in some:
            by_text, by_picture = matched(row)
            found[row] = text_ranks(by_text, owner), image_ranks(by_picture, owner)
            del scores[row]
    return found, sizes


def _scores(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], words: np.ndarray
) -> tuple[dict[Row, np.ndarray], list[tuple[int, int]]]:
    """Similarities float32 [texts, pictures] of each row, and the pictures' sizes."""
    scores = {row: np.zeros((len(words), len(data.images)), np.float32) for row in rows}
    shown: list[tuple[int, int]] = []
    for start, tokens, sizes in _batches(data, model):
        shown += sizes
        pulls: dict[tuple[Any, ...], Perturbation] = {}
        plain = max_similarity(words, model.image_vectors(tokens).cpu().numpy())
        for row, made in scores.items():
            part = plain
            if row.method == "qpert":
                pull = pulled(model, data, row, start, tokens, sizes, pulls)
                part = max_similarity(words, model.image_vectors(tokens, pull).cpu().numpy())
            elif row.method == "oes":
                near = [_regions(model, data, row, start + i, size) for i, size in enumerate(sizes)]
                own = [object_vectors(model, tokens[[i]], regions) for i, regions in enumerate(near)]
                part = plain + np.stack([_nearest_object(words, objects) for objects in own], 1)
            made[:, start : start + len(sizes)] = part
    return scores, shown


def _nearest_object(words: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Of each text the largest similarity to one of a picture's objects, 0 where it has none, [texts]."""
    return (words @ objects.T).max(1) if len(objects) else np.zeros(len(words), np.float32)


def pulled(
    model: ImageTextModel, data: CaptionedDataset, row: Row, start: int, tokens: Tensor, sizes: Sequence[tuple[int, int]],
    pulls: dict[tuple[Any, ...], Perturbation],
) -> Perturbation:  # fmt: skip
    """A row's perturbation of a batch; rows with equal subspaces, kept in `pulls`, share them."""
    options = {"theta": model.theta, "strength": model.strength, "weight": "1", "mode": "paper", **row.options}
    key = (options["boxes"], options["theta"], options["mode"])
    if key not in pulls:
        regions = [_regions(model, data, row, start + i, size) for i, size in enumerate(sizes)]
        pulls[key] = model.perturbation(tokens, regions, theta=options["theta"], mode=options["mode"])
    return replace(pulls[key], strength=options["strength"], weight=options["weight"])


def object_vectors(model: ImageTextModel, tokens: Tensor, regions: Sequence[PatchMask]) -> np.ndarray:
    """Each object as if its patches were the whole picture, float32 [objects * q, dim] (the paper's object embeddings).

    How the paper pools a region is not stated; here the queries see the patches that the box touches. A model that
    pools by its CLS token keeps that token.
    """
    kept = []
    for region in regions:
        inside = np.flatnonzero(region.patches.reshape(-1)) + model.first_patch
        places = np.concatenate([np.arange(0 if model.encoder is None else model.first_patch), inside])
        kept.append(model.image_vectors(tokens[:, torch.from_numpy(places).to(tokens.device)])[0].cpu().numpy())
    return np.concatenate(kept) if kept else np.zeros((0, 0), np.float32)


def _matched(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], scores: Mapping[Row, np.ndarray]
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


def _batches(data: CaptionedDataset, model: ImageTextModel) -> Iterator[tuple[int, Tensor, list[tuple[int, int]]]]:
    for start in tqdm(range(0, len(data.images), BATCH), desc="pictures"):
        images = [load() for load in data.images[start : start + BATCH]]
        yield start, model.encode_images(images), [image.size for image in images]


def _regions(model: ImageTextModel, data: CaptionedDataset, row: Row, picture: int, size: tuple[int, int]) -> list[PatchMask]:
    boxes = data.boxes[row.options["boxes"]][picture]
    return [rasterise(Prompt.box(*box).fit(size), size, model.grid) for box in boxes]
