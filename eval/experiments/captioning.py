"""CIDEr of a model's captions, beside the captions of two baselines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from foir.errors import Unavailable
from foir.image_text import ImageTextModel
from foir.mini.captioner import tokens

from ..datasets.base import CaptionedDataset
from ..metrics.retrieval import image_mean
from ..report.results import Cell
from .specs import ImageTextSpec, RunContext
from .text_retrieval import BATCH, encode_batches, image_vectors

TOKENIZER = "foir.mini.caption.tokens: lower case, runs of letters and digits"  # as cells have always reported it


@dataclass(frozen=True)
class Captioning(ImageTextSpec):
    """CIDEr of a model's captions beside two baselines."""

    data_kind = CaptionedDataset

    def measure(self, data: CaptionedDataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """CIDEr of the model's captions, of the most frequent training caption, and of the nearest training photo's.

        Raises:
            Unavailable: The model writes no captions, or the data has no training photos.
        """
        caption = require_caption(model)
        started = time.perf_counter()
        count = context.count(len(data.images))
        captions: list[str] = []
        vectors = []
        for encoded in tqdm(encode_batches(model, data.images[:count]), total=-(-count // BATCH), desc="captions"):
            captions += caption(encoded)
            vectors.append(model.image_vectors(encoded)[:, 0].cpu().numpy())
        shared = {"method": "caption", "options": {"tokenizer": TOKENIZER}, "n": count, "unit": "x100", "scale": 1}
        builder = self.cells(data, model, started, **shared)
        if data.training is None:
            raise Unavailable(f"{data.name} has no training photos beside its queries.")
        images, training = data.training()
        nearest = (np.concatenate(vectors) @ image_vectors(model, images)[:, 0].T).argmax(1)
        common, _ = Counter(text for texts in training for text in texts).most_common(1)[0]
        methods = {
            "caption": captions,
            "nearest-photo": [training[row][0] for row in nearest],
            "most-frequent-caption": [common] * count,
        }
        references = data.captions[:count]
        means = {method: image_mean(cider(texts, references), np.arange(count)) for method, texts in methods.items()}
        cells = []
        for method, mean in means.items():
            cells.append(builder.using(method=method).value("CIDEr", mean))
            if method != "caption":
                cells.append(builder.value(f"CIDEr minus {method}", means["caption"].minus(mean)))
        return [*cells, builder.using(unit="count").value("distinct captions", float(len(set(captions))))]


def require_caption(model: ImageTextModel) -> Callable[..., list[str]]:
    """The model's caption function.

    Raises:
        Unavailable: It has none.
    """
    if model.caption is None:
        raise Unavailable(f"{model.name} writes no captions.")
    return model.caption


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D of each caption [n] as coco-caption computes it, times 100; document frequencies are the references'."""
    from pycocoevalcap.cider.cider import Cider

    def normalise(text: str) -> str:
        return " ".join(tokens(text))

    expected = {i: [normalise(text) for text in texts] for i, texts in enumerate(references)}
    _, scores = Cider().compute_score(expected, {i: [normalise(text)] for i, text in enumerate(candidates)})
    return 100 * np.asarray(scores)


EXPERIMENTS = (Captioning("mini-captions", "Captions of the test photos of Flickr8k, CIDEr", ("flickr8k",), ("mini",)),)
