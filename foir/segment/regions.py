"""Class-free region proposals of `mini`: boxes that its patches predict, each outlined by a region of a merge tree.

The image is encoded whole and in tiles near its own resolution. At both scales the box head (`foir.segment.box_head`)
gives each patch a box and how well it fits; Ward's tree over the patches (`foir.segment.merge_tree`) gives the pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foir.encoders.base import Encoder
from foir.patches import PatchMask
from foir.prompts import Box, Prompt, box_overlaps
from foir.segment import box_head
from foir.segment.box_head import BoxHead
from foir.segment.merge_tree import RegionTree, merge_regions
from foir.segment.outline import Outline, click_points
from foir.segment.patch_features import PatchFeatures, patch_features

FILE = Path(__file__).parents[1] / "assets" / "mini" / "boxes.safetensors"
MAX_POINTS = 64  # points of a prompt that are used
MAX_IOU = 0.6  # between two proposals
MIN_SCORE, MIN_REGIONS, MAX_REGIONS = 0.5, 3, 20  # of the proposals by default
MIN_OUTLINE = 0.4  # IoU of a box and a region of the tree, from which on the region outlines the thing


@dataclass(frozen=True, eq=False)
class Region:
    """A proposed region: its box and pixels (bool [H, W]) on the image, and how well the box should fit (0 to 1)."""

    box: Box
    mask: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class Scale:
    """What the patches of one scale say.

    Attributes:
        tree: Nested regions of patches.
        boxes: The box that each patch predicts, as fractions of the image, [rows * cols, 4].
        scores: How well it should fit, 0 to 1, [rows * cols].
    """

    tree: RegionTree
    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    @torch.inference_mode()
    def of(cls, features: PatchFeatures, head: BoxHead) -> Scale:
        """Run the box head on a scale's patches."""
        rows, cols = features.tokens.shape[:2]
        boxes, fits = head(torch.from_numpy(features.tokens).permute(2, 0, 1)[None])
        fractions = boxes[0].reshape(-1, 4) / boxes.new_tensor([cols, rows, cols, rows])
        return cls(merge_regions(features), fractions.clamp(0, 1).double().numpy(), fits.sigmoid().flatten().numpy())


@dataclass(frozen=True, eq=False)
class RegionProposals:
    """All proposals of an image of `size` (width, height), at each scale."""

    size: tuple[int, int]
    scales: tuple[Scale, ...]

    def top(
        self, *, min_score: float = MIN_SCORE, min_count: int = MIN_REGIONS, max_count: int = MAX_REGIONS
    ) -> list[Region]:
        """The best regions after non-maximum suppression: those above `min_score`, within the two counts."""
        from torchvision.ops import nms  # seconds, which only detection needs

        boxes = np.concatenate([scale.boxes for scale in self.scales])
        scores = np.concatenate([scale.scores for scale in self.scales])
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores).double(), MAX_IOU)[:max_count].tolist()
        owners = np.repeat(np.arange(len(self.scales)), [len(scale.scores) for scale in self.scales])
        return [
            self._region(self.scales[owners[index]], boxes[index], float(scores[index]))
            for rank, index in enumerate(kept)
            if rank < min_count or scores[index] > min_score
        ]

    def at(self, x: float, y: float) -> Region | None:
        """The best region that contains a point in pixels of the image, of those that the patches at it predict."""
        point = np.clip(np.array([x / self.size[0], y / self.size[1]]), 0, 1 - 1e-9)
        best: tuple[float, Scale, np.ndarray] | None = None
        for scale in self.scales:
            rows, cols = scale.tree.shape
            row, col = int(point[1] * rows), int(point[0] * cols)
            near = np.arange(rows * cols).reshape(rows, cols)[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
            for index in near.ravel():
                box = scale.boxes[index]
                around = (box[:2] <= point).all() and (point < box[2:]).all()
                if around and (best is None or scale.scores[index] > best[0]):
                    best = float(scale.scores[index]), scale, box
        return None if best is None else self._region(best[1], best[2], best[0], (x, y))

    def _region(self, scale: Scale, box: np.ndarray, score: float, point: tuple[float, float] | None = None) -> Region:
        """The region of a box; it contains `point`."""
        x0, y0, x1, y1 = (box * [*self.size, *self.size]).tolist()
        mask = np.zeros(self.size[::-1], bool)
        inside = np.s_[int(y0) : max(int(y0) + 1, round(y1)), int(x0) : max(int(x0) + 1, round(x1))]
        overlaps = box_overlaps(scale.tree.boxes, box)
        if len(overlaps) and overlaps.max() >= MIN_OUTLINE:
            patches = Image.fromarray(scale.tree.patches(int(overlaps.argmax())))
            mask[inside] = np.asarray(patches.resize(self.size, Image.Resampling.NEAREST), bool)[inside]
        pixel = (
            None
            if point is None
            else tuple(int(np.clip(v, 0, limit - 1)) for v, limit in zip(point[::-1], mask.shape, strict=True))
        )
        if not mask.any() or (pixel is not None and not mask[pixel]):
            mask[inside] = True
        return Region((x0, y0, x1, y1), mask, score)


class RegionProposer:
    """Proposes regions with the encoder that the box head was trained for."""

    def __init__(self, encoder: Encoder, file: Path = FILE) -> None:
        """Read the head.

        Raises:
            Unavailable: It is missing or damaged, or was trained for another encoder.
        """
        self.head = box_head.load(file, encoder)
        self.encoder, self.digest = encoder, hashlib.sha256(file.read_bytes()).hexdigest()[:8]

    def __call__(self, image: Image.Image) -> RegionProposals:
        """Propose regions of an RGB image."""
        scales = patch_features(self.encoder, image)
        return RegionProposals(image.size, tuple(Scale.of(features, self.head) for features in scales))

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
