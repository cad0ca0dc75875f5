"""Retrieval between words and pictures: recall at k both ways, and captions against people's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from eval.datasets import CaptionedDataset, ImageLoader
from eval.experiments.specs import Captioning, TextRetrieval
from eval.metrics.recall import max_similarity, image_ranks, text_ranks
from eval.metrics.retrieval import Mean, image_mean
from eval.report.results import Cell
from foir.errors import Unavailable
from foir.image_text import ImageTextModel
from foir.mini.captioner import tokens

BATCH = 16
TOKENIZER = "foir.mini.captioner.tokens: lower case, runs of letters and digits"


def retrieve(experiment: TextRetrieval, data: CaptionedDataset, model: ImageTextModel, *, limit: int | None = None) -> list[Cell]:
    """R@k from text to picture and from picture to text; `limit` query pictures against the whole gallery."""
    started = time.perf_counter()
    pictures = picture_vectors(model, data.images)
    words = word_vectors(model, data.captions)
    owner = np.repeat(np.arange(len(data.images)), [len(said) for said in data.captions])
    scores = max_similarity(words, pictures)
    asked = len(data.images) if limit is None else min(limit, len(data.images))
    queries = owner < asked
    about = _about(experiment.name, data, model, time.perf_counter() - started)
    ranks = {
        "t2i": (text_ranks(scores[queries], owner[queries]), owner[queries]),
        "i2t": (image_ranks(scores, owner)[:asked], np.arange(asked)),
    }
    cells = []
    for direction, (rank, images) in ranks.items():
        for k in experiment.ks:
            mean = image_mean(rank < k, images)
            cells.append(
                Cell(
                    **about,
                    method="cbir",
                    options={"direction": direction, "protocol": "full"},
                    metric=f"R@{k}",
                    value=100 * mean.value,
                    low=100 * mean.low,
                    high=100 * mean.high,
                    n=len(rank),
                )
            )
    return cells


def caption(experiment: Captioning, data: CaptionedDataset, model: ImageTextModel, *, limit: int | None = None) -> list[Cell]:
    """CIDEr of the model's captions, of the most frequent training caption, and of the nearest training photo's first.

    Raises:
        Unavailable: The model writes no captions.
    """
    if model.caption is None:
        raise Unavailable(f"{model.name} writes no captions.")
    started = time.perf_counter()
    asked = len(data.images) if limit is None else min(limit, len(data.images))
    written: list[str] = []
    vectors = []
    for seen in tqdm(looks(model, data.images[:asked]), total=-(-asked // BATCH), desc="captions"):
        written += model.caption(seen)
        vectors.append(model.image_vectors(seen)[:, 0].cpu().numpy())
    about = _about(experiment.name, data, model, time.perf_counter() - started)
    if data.training is None:
        raise Unavailable(f"{data.name} has no photos to learn from beside those that are asked for.")
    pictures, said = data.training()
    nearest = (np.concatenate(vectors) @ picture_vectors(model, pictures)[:, 0].T).argmax(1)
    common, _ = Counter(text for captions in said for text in captions).most_common(1)[0]
    rows = {
        "caption": written,
        "nearest-photo": [said[row][0] for row in nearest],
        "most-frequent-caption": [common] * asked,
    }
    references = data.captions[:asked]
    means = {method: image_mean(cider(texts, references), np.arange(asked)) for method, texts in rows.items()}
    cells = []

    def add(method: str, metric: str, mean: Mean | float, unit: str) -> None:
        value, low, high = (mean.value, mean.low, mean.high) if isinstance(mean, Mean) else (mean, None, None)
        cells.append(
            Cell(
                **about,
                method=method,
                options={"tokenizer": TOKENIZER},
                metric=metric,
                value=value,
                low=low,
                high=high,
                n=asked,
                unit=unit,
            )
        )

    for method, mean in means.items():
        add(method, "CIDEr", mean, "x100")
        if method != "caption":
            add("caption", f"CIDEr minus {method}", means["caption"].minus(mean), "x100")
    add("caption", "distinct captions", float(len(set(written))), "count")
    return cells


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption [n] as coco-caption computes it, times 100; document frequencies are the references'."""
    from pycocoevalcap.cider.cider import Cider

    def plain(text: str) -> str:
        return " ".join(tokens(text))

    known = {i: [plain(text) for text in texts] for i, texts in enumerate(references)}
    _, each = Cider().compute_score(known, {i: [plain(text)] for i, text in enumerate(candidates)})
    return 100 * np.asarray(each)


def picture_vectors(model: ImageTextModel, pictures: Sequence[ImageLoader]) -> np.ndarray:
    """Pictures in the joint space, float32 [n, q, dim]."""
    batches = tqdm(looks(model, pictures), total=-(-len(pictures) // BATCH), desc="pictures")
    return np.concatenate([model.image_vectors(seen).cpu().numpy() for seen in batches])


def word_vectors(model: ImageTextModel, captions: Sequence[Sequence[str]]) -> np.ndarray:
    """All captions of all pictures in the joint space, float32 [texts, dim]."""
    texts = [text for said in captions for text in said]
    return np.concatenate([model.encode_texts(texts[i : i + 256]).vectors for i in range(0, len(texts), 256)])


def _about(experiment: str, data: CaptionedDataset, model: ImageTextModel, seconds: float) -> dict[str, Any]:
    """What all cells of a run have in common."""
    return {
        "experiment": experiment,
        "dataset": data.name,
        "encoder": model.name,
        "seconds": round(seconds, 1),
        "revisions": {"encoder": model.revision},
    }


def looks(model: ImageTextModel, pictures: Sequence[ImageLoader]) -> Iterator[Tensor]:
    """Tokens of pictures, some at a time."""
    for start in range(0, len(pictures), BATCH):
        yield model.encode_images([load() for load in pictures[start : start + BATCH]])
