"""Whether a caption names the prompted object: captions of one image, steered to each of its objects, by strength."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from tqdm import tqdm

from foir.image_text import ImageTextModel
from foir.mini.captioner import tokens
from foir.terminal import write

from ..datasets.base import Dataset, Query
from ..metrics.retrieval import Mean, image_mean
from ..report.results import Cell
from .captioning import TOKENIZER, cider, require_caption
from .query_features import select_queries
from .query_prompts import LEFT_OUT, count_oddities, no_query, usable_prompt, write_oddities
from .specs import ImageTextSpec, RunContext


@dataclass(frozen=True)
class CaptionSteering(ImageTextSpec):
    """How often captions name the prompted object, by strength; 0 first."""

    strengths: tuple[float, ...]

    def measure(self, data: Dataset, model: ImageTextModel, context: RunContext) -> list[Cell]:
        """For each strength, how often the prompted category is named, how often an absent one, and CIDEr.

        "says" is the share of captions with a word for the prompted object's category, "says what is not there" that of
        captions with a word for a category that is not on the image, both in percent; "CIDEr" is against the image's
        sentence, which names everything on it. A strength of 0 is the caption of the whole image.

        Raises:
            Unavailable: The model writes no captions.
        """
        queries = [query for _, query in select_queries(data, context.limit)]
        started = time.perf_counter()
        captions, codes = _captions(data, model, queries, self.strengths)
        oddities = count_oddities(np.array(codes))
        write_oddities(data.name, oddities)
        queries = [query for query, code in zip(queries, codes, strict=True) if code != LEFT_OUT]
        if not queries:
            raise no_query(data)
        builder = self.cells(data, model, started, n=len(queries), oddities=oddities)
        images = np.array([query.image for query in queries])
        words, present = category_words(data), _present_categories(data)
        cells: list[Cell] = []
        bases: dict[str, Mean] = {}
        for strength, lines in captions.items():
            named = [{words[word] for word in tokens(line) if word in words} for line in lines]
            pairs = list(zip(queries, named, strict=True))
            correct = [query.category in categories for query, categories in pairs]
            absent = [bool(categories - present[query.image]) for query, categories in pairs]
            values = {"says": np.array(correct, float), "says what is not there": np.array(absent, float)}
            if data.sentences:
                values["CIDEr"] = cider(lines, [[data.sentences[image]] for image in images.tolist()]) / 100
            row = builder.using(method="qpert" if strength else "plain", options={"strength": strength})
            for metric, each in values.items():
                mean = image_mean(each, images)
                base = bases.setdefault(metric, mean)
                scored = {"unit": "x100", "options": {**row.options, "tokenizer": TOKENIZER}}
                cell = row.using(**scored) if metric == "CIDEr" else row
                cells += cell.compared(metric, mean, {} if base is mean else {"unpointed": base})
        return cells


def _captions(
    data: Dataset, model: ImageTextModel, queries: Sequence[Query], strengths: Sequence[float]
) -> tuple[dict[float, list[str]], list[int]]:
    """A caption for each query that is not left out, by strength; what is odd about each query, see `query_prompts`.

    What the model does not see of an image steers nothing.
    """
    caption = require_caption(model)
    captions: dict[float, list[str]] = {strength: [] for strength in strengths}
    oddities, unseen = [], 0
    by_image = [list(group) for _, group in groupby(queries, lambda query: query.image)]
    for group in tqdm(by_image, desc="captions"):
        image = data.query_images[group[0].image]()
        encoded = model.encode_images([image])
        whole = caption(encoded)[0]
        for query in group:
            prompt, oddity = usable_prompt(query.prompt, image.size)
            oddities.append(oddity)
            if prompt is None:
                continue
            regions = model.visible_regions([prompt], image.size)
            unseen += not regions
            perturbation = model.perturbation(encoded, [regions])
            for strength, lines in captions.items():
                is_steered = strength and regions
                lines.append(caption(encoded, replace(perturbation, strength=strength))[0] if is_steered else whole)
    if unseen:
        write(f"prompts outside what {model.name} sees of their images: {unseen}, captioned without them")
    return captions, oddities


def category_words(data: Dataset) -> dict[str, int]:
    """The category of a word: the last word of each category's names, unless another category has it too."""
    names = data.category_words or tuple((name,) for name in data.categories)
    heads = [{tokens(name)[-1] for name in category if tokens(name)} for category in names]
    counts = Counter(word for words in heads for word in words)
    return {word: category for category, words in enumerate(heads) for word in words if counts[word] == 1}


def _present_categories(data: Dataset) -> dict[int, set[int]]:
    """The categories on each query image: those of its queries, and those that its sentence names."""
    words = category_words(data)
    present: dict[int, set[int]] = {}
    for query in data.queries:
        present.setdefault(query.image, set()).add(query.category)
    for image, sentence in enumerate(data.sentences):
        named = {words[word] for word in _singular_words(sentence) if word in words}
        present.setdefault(image, set()).update(named)
    return present


def _singular_words(sentence: str) -> list[str]:
    """A sentence's words, and possible singulars of its plurals."""
    words = tokens(sentence)
    singulars = [word.removesuffix(plural) for plural in ("s", "es") for word in words if word.endswith(plural)]
    return words + singulars


EXPERIMENTS = (
    CaptionSteering(
        "caption-steering", "Captions of held-out playroom scenes, steered to small objects", ("playroom",), ("mini",),
        (0, 0.5, 1, 2, 4, 6, 8),
    ),
)  # fmt: skip
