"""Collages: several photos on one picture, each a thing that its caption describes. A whole photo, seen small."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from foir.mini.training.pictures import SIZE, Drawn, Pictures, Things, box_areas, normalise, resized

INSET = 7 / SIZE  # between a photo's edge and its box, half a patch


def collages(photos: Pictures, count: int, rng: np.random.Generator) -> Drawn:
    """Random collages of 2 x 2 to 3 x 3 photos; a thing's label is its row in `photos`."""
    pixels, things = [], []
    for _ in range(count):
        across, down = _cuts(rng), _cuts(rng)
        canvas, boxes, labels = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), [], []
        cells = [(x, y) for y in pairwise(down) for x in pairwise(across)]
        rows = rng.choice(len(photos.pixels), len(cells), replace=False)
        for (x, y), row in zip(cells, rows, strict=True):
            photo = resized(torch.from_numpy(np.array(photos.pixels[row])).permute(2, 0, 1), y[1] - y[0], x[1] - x[0])
            canvas[:, y[0] : y[1], x[0] : x[1]] = photo.flip(-1) if rng.random() < 0.5 else photo
            boxes.append(np.array([x[0], y[0], x[1], y[1]]) / SIZE + [INSET, INSET, -INSET, -INSET])
            labels.append(row)
        places = np.array(boxes, np.float32)
        pixels.append(canvas)
        things.append(Things(places, np.array(labels), box_areas(places)))
    return Drawn(normalise(torch.stack(pixels)), tuple(things))


def _cuts(rng: np.random.Generator) -> tuple[int, ...]:
    """Where the cells of a collage begin and end in one direction, in pixels."""
    if rng.random() < 0.5:
        return 0, int(SIZE * rng.uniform(0.38, 0.62)), SIZE
    return 0, int(SIZE * rng.uniform(0.25, 0.4)), int(SIZE * rng.uniform(0.58, 0.75)), SIZE
