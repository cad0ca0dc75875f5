"""Search by words: names of things without any text of the pictures, and captions where another caption is at hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foir.encoders.base import Encoder
from foir.image_text import ImageTextModel
from foir.search.lexical import TextIndex
from foir.search.query import TEXT_CONTEXT

from ..datasets.base import CaptionedDataset, Dataset
from ..metrics.recall import text_ranks
from ..metrics.retrieval import Mean, image_mean
from ..report.results import Cell
from .region_ranking import DEFAULT
from .specs import ImageTextSpec, RunContext
from .text_retrieval import TEXTS
from .word_ranking import WordRanking, names_of

WHOLE, REGIONS, SAID_TOO = "whole pictures", "regions too", "regions and captions"
CONTEXTS = {WHOLE: 1.0, REGIONS: TEXT_CONTEXT, SAID_TOO: TEXT_CONTEXT}


@dataclass(frozen=True)
class NameSearch(ImageTextSpec):
    """Names of what is on pictures, by vectors alone."""

    def measure(self, data: Dataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """Precision at R of each name, R the pictures that hold it; intervals are over names."""
        started = time.perf_counter()
        names = names_of(data)
        ranking = WordRanking.of(data, _encoder_of(model), context.cache)
        found: dict[str, Mean] = {}
        builder = self.cells(data, model, started, method=DEFAULT.way, n=len(names))
        cells = []
        vectors = model.encode_texts([name for name, _ in names]).vectors
        for row in (WHOLE, REGIONS):
            ranked = np.argsort(-ranking.scores(vectors, CONTEXTS[row]), axis=1, kind="stable")
            values = [_precision_at_r(data.labels[:, column], ranked[i]) for i, (_, column) in enumerate(names)]
            mean = image_mean(np.array(values), np.arange(len(names)))
            cells += builder.using(options={"by": row}).compared("precision at R", mean, found)
            found[row] = mean
        return cells


def _encoder_of(model: ImageTextModel) -> Encoder:
    if model.encoder is None:
        raise TypeError("regions are made by an encoder")
    return model.encoder


def _precision_at_r(holds: np.ndarray, ranked: np.ndarray) -> float:
    return float(holds[ranked[: int(holds.sum())]].mean())


@dataclass(frozen=True)
class CaptionSearch(ImageTextSpec):
    """The first caption of each picture is searched for, while its other captions are known."""

    data_kind = CaptionedDataset
    ks: tuple[int, ...] = (1, 10)

    def measure(self, data: CaptionedDataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """R@k by vectors alone, and with the words of the other captions."""
        started = time.perf_counter()
        asked = [own[0] for own in data.captions]
        texts = TextIndex(_Captions(tuple(" . ".join(own[1:]) for own in data.captions)))
        share = np.stack([texts.find(text).share for text in asked])
        gallery = Dataset(
            data.name, data.images, np.eye(len(asked), dtype=bool), (), (), tuple(map(str, range(len(asked))))
        )
        ranking = WordRanking.of(gallery, _encoder_of(model), context.cache)
        parts = [model.encode_texts(asked[start : start + TEXTS]).vectors for start in range(0, len(asked), TEXTS)]
        vectors, owner = np.concatenate(parts), np.arange(len(asked))
        found: dict[str, Mean] = {}
        builder = self.cells(data, model, started, method=DEFAULT.way, n=len(asked))
        cells = []
        for row in (WHOLE, REGIONS, SAID_TOO):
            ranks = text_ranks(ranking.scores(vectors, CONTEXTS[row], share if row == SAID_TOO else None), owner)
            for k in self.ks:
                mean, metric = image_mean(ranks < k, owner), f"R@{k}"
                bases = {name.partition("|")[2]: base for name, base in found.items() if name.startswith(f"{k}|")}
                cells += builder.using(options={"by": row}).compared(metric, mean, bases)
                found[f"{k}|{row}"] = mean
        return cells


@dataclass(frozen=True)
class _Captions:
    """Captions, as `TextIndex` reads them."""

    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def texts(self) -> Sequence[tuple[str | None, str | None, str]]:
        """Caption, keywords and file of each image."""
        return [(caption, None, "") for caption in self.captions]


EXPERIMENTS = (
    NameSearch(
        "words-names", "Names of toys and classes, without any text of the pictures",
        ("playroom-things-instances", "playroom-things", "coco_small"), ("mini",),
    ),
    CaptionSearch(
        "words-captions", "One caption of each picture, by vectors and by the words of its other captions",
        ("flickr8k", "coco-small-captions"), ("mini",),
    ),
)  # fmt: skip
