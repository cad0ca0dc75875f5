"""Whether a caption says what is pointed at: captions of one picture, pulled at each of its objects, over strengths."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.datasets import Dataset
from eval.experiments.specs import CaptionSteering
from eval.experiments.text_retrieval import TOKENIZER, cider
from eval.metrics.retrieval import image_mean
from eval.report.results import Cell
from foir.errors import Unavailable
from foir.image_text import ImageTextModel
from foir.mini.captioner import tokens
from foir.patches import rasterise


def run(experiment: CaptionSteering, data: Dataset, model: ImageTextModel, *, limit: int | None = None) -> list[Cell]:
    """For each strength: how often the pointed category is named, how often one that is not there, and CIDEr.

    "says" is the rate of captions with a word for the pointed thing's category, "says what is not there" that of
    captions with a word for a category of which the picture shows nothing, both in percent; "CIDEr" is against the
    picture's own sentence, which names everything on it. A strength of 0 is the caption of the whole picture.

    Raises:
        Unavailable: The model writes no captions.
    """
    if model.caption is None:
        raise Unavailable(f"{model.name} writes no captions.")
    names = category_words(data)
    asked = [q for q in data.queries if limit is None or q.image < limit]
    written: dict[float, list[str]] = {strength: [] for strength in experiment.strengths}
    started = time.perf_counter()
    by_picture = [list(some) for _, some in groupby(asked, lambda query: query.image)]
    for some in tqdm(by_picture, desc="captions"):
        image = data.query_images[some[0].image]()
        seen = model.encode_images([image])
        whole = model.caption(seen)[0]
        for query in some:
            region = rasterise(query.prompt.fit(image.size), image.size, model.grid)
            pull = model.perturbation(seen, [[region]])
            for strength, lines in written.items():
                lines.append(model.caption(seen, replace(pull, strength=strength))[0] if strength else whole)
    about: dict[str, Any] = {
        "experiment": experiment.name,
        "dataset": data.name,
        "encoder": model.name,
        "n": len(asked),
        "seconds": round(time.perf_counter() - started, 1),
        "revisions": {"encoder": model.revision, "data": data.digest},
    }
    images = np.array([query.image for query in asked])
    present = _present(data)
    cells: list[Cell] = []
    bases: dict[str, Any] = {}
    for strength, lines in written.items():
        said = [{names[word] for word in tokens(line) if word in names} for line in lines]
        values = {
            "says": np.array([query.category in kinds for query, kinds in zip(asked, said, strict=True)], float),
            "says what is not there": np.array(
                [bool(kinds - present[query.image]) for query, kinds in zip(asked, said, strict=True)], float
            ),
        }
        if data.sentences:
            values["CIDEr"] = cider(lines, [[data.sentences[picture]] for picture in images.tolist()]) / 100
        options: dict[str, Any] = {"strength": strength}
        for metric, each in values.items():
            mean = image_mean(each, images)
            unit = "x100" if metric == "CIDEr" else "%"
            shown = options | ({"tokenizer": TOKENIZER} if metric == "CIDEr" else {})
            parts = [(metric, mean)]
            base = bases.setdefault(metric, mean)
            if base is not mean:
                parts.append((f"{metric} minus unpointed", mean.minus(base)))
            for name, part in parts:
                value, low, high = (100 * number for number in (part.value, part.low, part.high))
                method = "qpert" if strength else "plain"
                cells.append(
                    Cell(**about, method=method, options=shown, metric=name, value=value, low=low, high=high, unit=unit)
                )
    return cells


def category_words(data: Dataset) -> dict[str, int]:
    """Which category a word speaks of: the last word of each of its names, where no other category's ends in it."""
    names = data.category_words or tuple((name,) for name in data.categories)
    heads = [{tokens(name)[-1] for name in some if tokens(name)} for some in names]
    counts = Counter(word for some in heads for word in some)
    return {word: kind for kind, some in enumerate(heads) for word in some if counts[word] == 1}


def _present(data: Dataset) -> dict[int, set[int]]:
    """The categories that each query picture shows: those it is asked for, and those that its sentence names."""
    names = category_words(data)
    shown: dict[int, set[int]] = {}
    for query in data.queries:
        shown.setdefault(query.image, set()).add(query.category)
    for picture, sentence in enumerate(data.sentences):
        words = {names[word] for word in _singular(sentence) if word in names}
        shown.setdefault(picture, set()).update(words)
    return shown


def _singular(sentence: str) -> list[str]:
    """A sentence's words, and those that a plural may stand for."""
    words = tokens(sentence)
    return [
        *words,
        *(word[:-1] for word in words if word.endswith("s")),
        *(word[:-2] for word in words if word.endswith("es")),
    ]
