"""Recall at k between texts and images, in both directions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from foir.image_text import ImageTextModel

from ..datasets.base import CaptionedDataset, ImageLoader
from ..metrics.recall import image_ranks, max_similarity, text_ranks
from ..metrics.retrieval import image_mean
from ..report.results import Cell
from .specs import ImageTextSpec, RunContext

BATCH, TEXTS = 16, 256  # images and texts at a time


@dataclass(frozen=True)
class TextRetrieval(ImageTextSpec):
    """Recall at each of `ks` between texts and images, in both directions."""

    data_kind = CaptionedDataset
    ks: tuple[int, ...] = (1, 5, 10)

    def measure(self, data: CaptionedDataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """R@k from text to image and from image to text; `limit` query images against the whole gallery."""
        started = time.perf_counter()
        images = image_vectors(model, data.images)
        owner = data.text_images
        scores = max_similarity(text_vectors(model, data), images)
        count = context.count(len(data.images))
        texts = owner < count
        builder = self.cells(data, model, started, method="cbir")
        ranks = {
            "t2i": (text_ranks(scores[texts], owner[texts]), owner[texts]),
            "i2t": (image_ranks(scores, owner)[:count], np.arange(count)),
        }
        cells = []
        for direction, (rank, rank_images) in ranks.items():
            cell = builder.using(options={"direction": direction, "protocol": "full"}, n=len(rank))
            cells += [cell.value(f"R@{k}", image_mean(rank < k, rank_images)) for k in self.ks]
        return cells


def image_vectors(model: ImageTextModel, images: Sequence[ImageLoader]) -> np.ndarray:
    """Images in the joint space, float32 [n, q, dim]."""
    batches = tqdm(encode_batches(model, images), total=-(-len(images) // BATCH), desc="images")
    return np.concatenate([model.image_vectors(tokens).cpu().numpy() for tokens in batches])


def text_vectors(model: ImageTextModel, data: CaptionedDataset) -> np.ndarray:
    """All captions of all images in the joint space, float32 [texts, dim]."""
    texts = data.texts
    return np.concatenate([model.encode_texts(texts[i : i + TEXTS]).vectors for i in range(0, len(texts), TEXTS)])


def encode_batches(model: ImageTextModel, images: Sequence[ImageLoader]) -> Iterator[Tensor]:
    """Tokens of images, `BATCH` at a time."""
    for start in range(0, len(images), BATCH):
        yield model.encode_images([load() for load in images[start : start + BATCH]])


EXPERIMENTS = (
    TextRetrieval("text-flickr8k", "Text to image and back on the test list of Flickr8k", ("flickr8k",), ("mini",)),
)
