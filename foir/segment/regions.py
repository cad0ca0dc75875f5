"""Class-agnostic region proposals from an encoder's patches: a merge tree, ranked by an objectness rule.

The image is encoded whole and in tiles near its own resolution. Ward's tree over neighbouring patches gives nested
regions; one logistic rule scores the objectness of a patch, another that of a region. Both are trained on composed
scenes (`python -m foir.segment.train_regions`), so that on photos they are a rough guide only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.patches import PatchMask
from foir.prompts import Box, Prompt
from foir.segment.merge_tree import RegionTree, merge_regions
from foir.segment.outline import Outline, click_points
from foir.segment.patch_features import patch_features

RULES_FILE = Path(__file__).parents[1] / "assets" / "mini" / "regions.json"
MAX_POINTS = 64  # points of a prompt that are used
MAX_IOU = 0.4  # between two proposals
MIN_SCORE, MIN_REGIONS, MAX_REGIONS = 0.3, 3, 20  # of the proposals by default


@dataclass(frozen=True, eq=False)
class LogisticRule:
    """A logistic rule on standardised features."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, [...] from [..., features]."""
        return np.asarray(1 / (1 + np.exp(-((features - self.mean) / self.scale @ self.weights + self.bias))))


@dataclass(frozen=True, eq=False)
class Region:
    """A proposed region: its box and pixels (bool [H, W]) on the image, and its objectness."""

    box: Box
    mask: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class RegionProposals:
    """All regions of an image.

    Attributes:
        size: Width and height of the image.
        trees: One merge tree for each scale.
        scores: Objectness of each tree's regions.
    """

    size: tuple[int, int]
    trees: tuple[RegionTree, ...]
    scores: tuple[np.ndarray, ...]

    def top(
        self, *, min_score: float = MIN_SCORE, min_count: int = MIN_REGIONS, max_count: int = MAX_REGIONS
    ) -> list[Region]:
        """The best regions after non-maximum suppression: those above `min_score`, within the two counts."""
        from torchvision.ops import nms  # seconds, which only detection needs

        boxes, scores = np.concatenate([tree.boxes for tree in self.trees]), np.concatenate(self.scores)
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), MAX_IOU)[:max_count].tolist()
        return [self._region(index) for rank, index in enumerate(kept) if rank < min_count or scores[index] > min_score]

    def at(self, x: float, y: float) -> Region | None:
        """The best region that contains a point in pixels of the image; None if no region does."""
        point = np.clip(np.array([x / self.size[0], y / self.size[1]]), 0, 1 - 1e-9)
        best, best_score, first = None, -np.inf, 0
        for tree, scores in zip(self.trees, self.scores, strict=True):
            inside = np.flatnonzero((tree.boxes[:, :2] <= point).all(1) & (point < tree.boxes[:, 2:]).all(1))
            row, col = (point[::-1] * tree.shape).astype(int)
            for index in inside[np.argsort(-scores[inside])]:
                if scores[index] <= best_score:
                    break
                if tree.patches(int(index))[row, col]:
                    best, best_score = first + int(index), scores[index]
                    break
            first += len(tree.nodes)
        return None if best is None else self._region(best)

    def _region(self, index: int) -> Region:
        """The region at an index into the regions of all trees."""
        number = 0
        while index >= len(self.trees[number].nodes):
            index -= len(self.trees[number].nodes)
            number += 1
        tree, scores = self.trees[number], self.scores[number]
        mask = Image.fromarray(tree.patches(index)).resize(self.size, Image.Resampling.NEAREST)
        x0, y0, x1, y1 = (tree.boxes[index] * [*self.size, *self.size]).tolist()
        return Region((x0, y0, x1, y1), np.asarray(mask, bool), float(scores[index]))


class RegionProposer:
    """Proposes regions with the encoder that the rules were trained for."""

    def __init__(self, encoder: Encoder, file: Path = RULES_FILE) -> None:
        """Read the rules.

        Raises:
            Unavailable: The rules are missing, or were trained for another encoder.
        """
        try:
            rules = json.loads(file.read_text(encoding="utf-8"))
            self.patch_rule, self.region_rule = (
                LogisticRule(*(np.array(rules[name][key]) for key in ("mean", "scale", "weights", "bias")))
                for name in ("patch", "region")
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"The region rules cannot be read at {file}.") from error
        if rules["encoder"] != [encoder.name, encoder.revision]:
            raise Unavailable(f"The region rules were trained for {rules['encoder'][0]}, not {encoder.name}.")
        self.encoder, self.digest = encoder, hashlib.sha256(file.read_bytes()).hexdigest()[:8]

    def __call__(self, image: Image.Image) -> RegionProposals:
        """Propose regions of an RGB image."""
        scales = patch_features(self.encoder, image)
        trees = tuple(merge_regions(features, self.patch_rule(features.deep)) for features in scales)
        return RegionProposals(image.size, trees, tuple(self.region_rule(tree.region_features) for tree in trees))

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`; where no region matches, the prompted pixels are returned."""
        proposals = self(image)

        def outline(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            ys, xs = np.nonzero(mask.pixels)
            points = click_points(prompt, image.size) or [(float(xs.mean()), float(ys.mean()))]
            pixels = np.zeros_like(mask.pixels)
            for x, y in points[:MAX_POINTS]:
                if (region := proposals.at(x, y)) is not None:
                    pixels |= region.mask
            return pixels if pixels.any() else mask.pixels

        return outline
