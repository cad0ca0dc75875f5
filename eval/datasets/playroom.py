"""playroom: held-out composed scenes as queries, the sample gallery's scenes as the gallery. Toys, not photos."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.datasets import Dataset, Load, Query, dataset
from foir.playroom import compose, sprites
from foir.prompts import Prompt

GALLERY, QUERIES = 600, 200
SMALL = (0.01, 0.05)  # share of the picture that a prompted thing covers


@dataset("playroom")
def playroom() -> Dataset:
    """Boxes around things that cover 1 to 5 % of a held-out scene; a hit holds a thing of the same category."""
    kinds = {name: i for i, name in enumerate(sorted({sprite.category for sprite in sprites()}))}
    labels = np.zeros((GALLERY, len(kinds)), bool)
    for number in range(GALLERY):
        for thing in compose("gallery", number).things:
            labels[number, kinds[thing.sprite.category]] = True
    queries = [
        Query(number, Prompt.box(*thing.box), kinds[thing.sprite.category])
        for number in range(QUERIES)
        for thing in compose("held-out", number).things
        if SMALL[0] <= thing.share <= SMALL[1]
    ]
    return Dataset(
        "playroom",
        tuple(_picture("gallery", number) for number in range(GALLERY)),
        labels,
        tuple(queries),
        tuple(_picture("held-out", number) for number in range(QUERIES)),
        tuple(kinds),
    )


def _picture(split: str, number: int) -> Load:
    def load() -> Image.Image:
        return compose(split, number).image  # composed again: 800 scenes would not fit everybody's memory

    return load
