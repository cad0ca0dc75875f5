"""Ranks of texts and images for each other under every row's perturbation; rows share the encoded images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from foir.image_text import ImageTextModel, Match
from foir.patches import PatchMask
from foir.perturbation.query_perturbation import Perturbation
from foir.prompts import Prompt
from foir.terminal import write

from ..datasets.base import CaptionedDataset
from ..datasets.checks import is_outside
from ..metrics.recall import image_ranks, max_similarity, text_ranks
from .specs import Row

BATCH = 8
SHORTLIST = 64  # top candidates by vectors, in either direction, that the matching head scores again
OUTSIDE = -100.0  # score of all others after the matching head
MEMORY = 4e9  # bytes of scores at a time; more rows than that encode the images again
_Logits = dict[tuple[int, int], float]  # of (text, image)
Ranks = tuple[np.ndarray, np.ndarray]  # rank of each text's image, [texts]; of each image's best text, [images]
Sizes = Sequence[tuple[int, int]]  # (width, height)


@dataclass(frozen=True)
class Batch:
    """Encoded images.

    Attributes:
        start: Number of the first image in the data set.
        tokens: From `ImageTextModel.encode_images`.
        sizes: Size of each image.
        perturbations: Perturbations of the batch by what their subspaces depend on; rows share them.
        skipped: Number of the batch's boxes, by their kind, that the model does not see; known once they are used.
    """

    start: int
    tokens: Tensor
    sizes: Sizes
    perturbations: dict[tuple[Any, ...], Perturbation] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def single(self, i: int) -> Batch:
        """Image `i` of the batch alone."""
        return Batch(self.start + i, self.tokens[[i]], [self.sizes[i]])


def rank_rows(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], texts: np.ndarray
) -> tuple[dict[Row, Ranks], Sizes]:
    """Rank all texts and images for every row.

    Args:
        data: Images, captions, boxes.
        model: The model.
        rows: Rows with the method "plain", "qpert" or "oes".
        texts: The captions' vectors, float32 [texts, dim].

    Returns:
        Ranks of each row, and the images' sizes.
    """
    ranks: dict[Row, Ranks] = {}
    sizes: Sizes = []
    skipped: dict[str, int] = {}
    owner = data.text_images
    group_size = max(1, int(MEMORY / (4 * len(texts) * len(data.images))))
    for first in range(0, len(rows), group_size):
        group = rows[first : first + group_size]
        scores, sizes, unseen = _scores(data, model, group, texts)
        skipped |= unseen
        matched = match_scores(data, model, group, scores)
        for row in group:
            by_text, by_image = matched(row)
            ranks[row] = text_ranks(by_text, owner), image_ranks(by_image, owner)
            del scores[row]
    for kind, count in skipped.items():
        if count:
            write(f"boxes ({kind}) outside what {model.name} sees of their images: {count}, skipped")
    return ranks, sizes


def _scores(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], texts: np.ndarray
) -> tuple[dict[Row, np.ndarray], Sizes, dict[str, int]]:
    """Similarities of each row, float32 [texts, images], the images' sizes, and numbers of skipped boxes by kind."""
    scores = {row: np.zeros((len(texts), len(data.images)), np.float32) for row in rows}
    sizes: list[tuple[int, int]] = []
    skipped: Counter[str] = Counter()
    for batch in _batches(data, model):
        sizes += batch.sizes
        plain = max_similarity(texts, model.image_vectors(batch.tokens).cpu().numpy())
        for row, matrix in scores.items():
            similarity = plain
            if row.method == "qpert":
                vectors = model.image_vectors(batch.tokens, perturb(model, data, row, batch))
                similarity = max_similarity(texts, vectors.cpu().numpy())
            elif row.method == "oes":
                found = regions(model, data, row, batch)
                objects = [object_vectors(model, batch.tokens[[i]], some) for i, some in enumerate(found)]
                similarity = plain + np.stack([_max_object_similarity(texts, vectors) for vectors in objects], 1)
            matrix[:, batch.start : batch.start + len(batch.sizes)] = similarity
        skipped.update(batch.skipped)
    return scores, sizes, dict(+skipped)


def _max_object_similarity(texts: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Of each text the largest similarity to an object of an image, 0 where it has none, [texts]."""
    return (texts @ objects.T).max(1) if len(objects) else np.zeros(len(texts), np.float32)


def perturb(model: ImageTextModel, data: CaptionedDataset, row: Row, batch: Batch) -> Perturbation:
    """A row's perturbation of a batch; rows with equal subspaces share them."""
    options = {"theta": model.theta, "strength": model.strength, "weight": "1", "mode": "paper", **row.options}
    key = (options["boxes"], options["theta"], options["mode"])
    if key not in batch.perturbations:
        batch.perturbations[key] = model.perturbation(
            batch.tokens, regions(model, data, row, batch), theta=options["theta"], mode=options["mode"]
        )
    return replace(batch.perturbations[key], strength=options["strength"], weight=options["weight"])


def object_vectors(model: ImageTextModel, tokens: Tensor, objects: Sequence[PatchMask]) -> np.ndarray:
    """Each object as if its patches were the whole image, float32 [objects * q, dim] (the paper's object embeddings).

    The paper does not state how it pools a region; here the queries attend to the patches that the box touches. A model
    that pools by its CLS token keeps that token.
    """
    vectors = []
    for region in objects:
        inside = np.flatnonzero(region.patches.reshape(-1)) + model.first_patch
        special = np.arange(0 if model.encoder is None else model.first_patch)
        columns = torch.from_numpy(np.concatenate([special, inside])).to(tokens.device)
        vectors.append(model.image_vectors(tokens[:, columns])[0].cpu().numpy())
    return np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)


def match_scores(
    data: CaptionedDataset, model: ImageTextModel, rows: Sequence[Row], scores: Mapping[Row, np.ndarray]
) -> Callable[[Row], tuple[np.ndarray, np.ndarray]]:
    """A row's scores [texts, images] after the matching head: to rank images by, and to rank texts by."""
    match = model.match
    if match is None:
        return lambda row: (scores[row], scores[row])
    shortlists = {row: _shortlists(scores[row]) for row in rows}
    plain: _Logits = {}
    perturbed: dict[Row, _Logits] = {row: {} for row in rows if row.options.get("mode") == "legacy"}
    candidates = np.logical_or.reduce([a | b for row in rows if row not in perturbed for a, b in [shortlists[row]]])
    texts = data.texts
    for batch in _batches(data, model):
        for i in range(len(batch.sizes)):
            single = batch.single(i)
            plain |= _match(match, single, texts, np.flatnonzero(candidates[:, single.start]), None)
            for row, logits in perturbed.items():  # the released code perturbs the matching head's queries too
                near = np.logical_or(*shortlists[row])[:, single.start]
                logits |= _match(match, single, texts, np.flatnonzero(near), perturb(model, data, row, single))

    def matched(row: Row) -> tuple[np.ndarray, np.ndarray]:
        logits = perturbed.get(row, plain)
        matrices = []
        for near in shortlists[row]:
            final = np.full(scores[row].shape, OUTSIDE)
            for text, image in zip(*np.nonzero(near), strict=True):
                final[text, image] = logits[int(text), int(image)] + scores[row][text, image]
            matrices.append(final)
        return matrices[0], matrices[1]

    return matched


def _shortlists(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images are candidates of each text, and which texts of each image, bool [texts, images]."""
    masks = []
    for axis in (1, 0):
        near = np.zeros(scores.shape, bool)
        count = min(SHORTLIST, scores.shape[axis])
        best = np.argpartition(-scores, count - 1, axis)
        np.put_along_axis(near, best[:, :count] if axis == 1 else best[:count], True, axis)
        masks.append(near)
    return masks[0], masks[1]


def _match(
    match: Match, single: Batch, texts: Sequence[str], near: np.ndarray, perturbation: Perturbation | None
) -> _Logits:
    """The matching head's logits of one image and the texts `near`."""
    logits: _Logits = {}
    for start in range(0, len(near), SHORTLIST):
        chunk = near[start : start + SHORTLIST].tolist()
        rows = torch.zeros(len(chunk), dtype=torch.long, device=single.tokens.device)
        repeated = None if perturbation is None else perturbation.take(rows)
        scores = match(single.tokens[rows], [texts[text] for text in chunk], repeated)
        logits |= {(text, single.start): float(score) for text, score in zip(chunk, scores, strict=True)}
    return logits


def _batches(data: CaptionedDataset, model: ImageTextModel) -> Iterator[Batch]:
    for start in tqdm(range(0, len(data.images), BATCH), desc="images"):
        images = [load() for load in data.images[start : start + BATCH]]
        yield Batch(start, model.encode_images(images), [image.size for image in images])


def regions(model: ImageTextModel, data: CaptionedDataset, row: Row, batch: Batch) -> list[list[PatchMask]]:
    """The objects of each image of a batch, on the model's grid; `batch.skipped` counts those that are not on it."""
    kind = row.options["boxes"]
    boxes = data.boxes[kind][batch.start : batch.start + len(batch.sizes)]
    found, on_images = [], 0
    for image_boxes, size in zip(boxes, batch.sizes, strict=True):
        prompts = [Prompt.box(*box) for box in image_boxes if not is_outside(box, size)]
        found.append(model.visible_regions(prompts, size))
        on_images += len(prompts)
    batch.skipped[kind] = on_images - sum(map(len, found))
    return found
