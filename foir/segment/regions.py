"""Regions of an encoder's patches that could be things: a merge tree, ranked by what tells things from ground.

The picture is looked at whole and in tiles near its own resolution. Ward's tree over neighbouring patches gives nested
regions; one linear rule says how much a patch looks like a thing, another how much a region does. Both are learnt on
composed scenes (`python -m foir.segment.train_regions`), so that on photos they are a rough guide only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.patches import PatchMask
from foir.prompts import Box, Prompt
from foir.segment import Outline, click_points
from foir.segment.boxes import nms

RULES = Path(__file__).parents[1] / "assets" / "mini" / "regions.json"
TILES = 3  # along each side at most
COMPONENTS = 32  # of the patches' features that the tree sees
COLOUR = 3.0  # weight of a patch's mean colour beside them
PLACES = 64  # that are looked at of what is pointed at
LARGEST = 0.6  # share of the picture that a region may cover
APART = 0.4  # of two regions that overlap more (IoU) the better one is kept
PARTS = ("mean", "scale", "weights", "bias")
SURE, FEWEST, MOST = 0.3, 3, 20  # kept: those above SURE, but so many at least and at most


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """A picture's patches at one scale.

    Attributes:
        deep: Unit tokens before the last blocks, [rows, cols, d].
        last: Unit patches behind the last block, [rows, cols, d].
        colour: Mean colour in CIELAB, 0..1, [rows, cols, 3].
    """

    deep: np.ndarray
    last: np.ndarray
    colour: np.ndarray


def patch_features(encoder: Encoder, image: Image.Image) -> list[PatchFeatures]:
    """The picture whole and, where it is larger than the encoder's input, in tiles."""
    tiles = [min(TILES, -(-length // encoder.size)) for length in (image.height, image.width)]
    return [_look(encoder, image, *shape) for shape in dict.fromkeys([(1, 1), (tiles[0], tiles[1])])]


def _look(encoder: Encoder, image: Image.Image, rows: int, cols: int) -> PatchFeatures:
    across, down = (np.linspace(0, length, n + 1).round() for length, n in ((image.width, cols), (image.height, rows)))
    parts = [image.crop((across[c], down[r], across[c + 1], down[r + 1])) for r in range(rows) for c in range(cols)]
    prefix = encoder.prefix(encoder.pixels(parts))
    deep = prefix.deep[:, prefix.block.first_patch :].float()
    shape = (rows * encoder.grid[0], cols * encoder.grid[1])
    small = image.convert("RGB").resize(shape[::-1], Image.Resampling.BOX).convert("LAB")

    def joined(patches: np.ndarray) -> np.ndarray:
        laid = patches.reshape(rows, cols, *encoder.grid, -1).transpose(0, 2, 1, 3, 4)
        return laid.reshape(*shape, -1)

    unit = deep / deep.norm(dim=-1, keepdim=True)
    return PatchFeatures(
        joined(unit.cpu().numpy()), joined(encoder.patch_features(prefix).cpu().numpy()), _channels(small)
    )


def _channels(lab: Image.Image) -> np.ndarray:
    """CIELAB in 0..1 with grey in the middle of a* and b*, which Pillow keeps as signed bytes."""
    values = np.array(lab)
    values[..., 1:] ^= 128
    return values.astype(np.float32) / 255


@dataclass(frozen=True, eq=False)
class RegionTree:
    """The nodes of a look's merge tree that could be things.

    Attributes:
        boxes: (x0, y0, x1, y1) as shares of the picture, [n, 4].
        facts: What tells things from other regions, [n, FACTS].
        nodes: Their numbers in the tree.
        children: Of each node that is no leaf.
        shape: Rows and columns of patches.
    """

    boxes: np.ndarray
    region_features: np.ndarray
    nodes: np.ndarray
    children: np.ndarray
    shape: tuple[int, int]

    def patches(self, region: int) -> np.ndarray:
        """The patches of a region, bool [rows, cols]."""
        leaves, inside, left = self.shape[0] * self.shape[1], [], [int(self.nodes[region])]
        while left:
            node = left.pop()
            if node < leaves:
                inside.append(node)
            else:
                left += self.children[node - leaves].tolist()
        made = np.zeros(leaves, bool)
        made[inside] = True
        return made.reshape(self.shape)


def merge_regions(look: PatchFeatures, likely: np.ndarray) -> RegionTree:
    """Grow the merge tree and describe its nodes.

    Args:
        look: A picture's patches.
        likely: How much each patch looks like a thing, 0..1, [rows, cols].
    """
    from sklearn.cluster import ward_tree
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.image import grid_to_graph

    rows, cols = likely.shape
    count = rows * cols
    flat = look.last.reshape(count, -1)
    main = PCA(min(COMPONENTS, *flat.shape), svd_solver="randomized", random_state=0).fit_transform(flat)
    colour = look.colour.reshape(count, 3) - look.colour.mean((0, 1))
    seen = np.concatenate([main / max(main.std(), 1e-6), COLOUR * colour / max(colour.std(), 1e-6)], 1)
    children, *_, distances = ward_tree(seen, connectivity=grid_to_graph(rows, cols), return_distance=True)
    total = count + len(children)
    box, size, sums = np.zeros((total, 4), int), np.ones(total), np.zeros(total)
    formed, ended, parent, sibling = np.zeros(total), np.zeros(total), np.full(total, -1), np.full(total, -1)
    row, col = np.divmod(np.arange(count), cols)
    box[:count], sums[:count] = np.stack([col, row, col + 1, row + 1], 1), likely.ravel()
    for node, (a, b), distance in zip(range(count, total), children, distances, strict=True):
        box[node] = *np.minimum(box[a, :2], box[b, :2]), *np.maximum(box[a, 2:], box[b, 2:])
        size[node], sums[node], formed[node] = size[a] + size[b], sums[a] + sums[b], distance
        for one, other in ((a, b), (b, a)):
            ended[one], parent[one], sibling[one] = distance, node, other
    nodes = np.flatnonzero((parent >= 0) & (size > 1) & (size <= LARGEST * count))
    facts = _facts(likely, box, size, sums, formed, ended, parent, sibling)[nodes]
    return RegionTree(box[nodes] / [cols, rows, cols, rows], facts, nodes, children, (rows, cols))


def _facts(
    likely: np.ndarray,
    box: np.ndarray,
    size: np.ndarray,
    sums: np.ndarray,
    formed: np.ndarray,
    ended: np.ndarray,
    parent: np.ndarray,
    sibling: np.ndarray,
) -> np.ndarray:
    """Size, how full its box is, when it formed and ended, how thing-like it and what surrounds it are, borders."""
    rows, cols = likely.shape
    integral = np.pad(likely.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def within(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = integral[b[:, 3], b[:, 2]] - integral[b[:, 1], b[:, 2]] - integral[b[:, 3], b[:, 0]]
        return inside + integral[b[:, 1], b[:, 0]], (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])

    wider = np.clip(box + [-1, -1, 1, 1], 0, [cols, rows, cols, rows])
    (near, area), (far, around) = within(box), within(wider)
    mean, share = sums / size, size / (rows * cols)
    border = (box[:, 0] == 0) | (box[:, 1] == 0) | (box[:, 2] == cols) | (box[:, 3] == rows)
    return np.stack(
        [
            np.log(share),
            np.log(share) ** 2,
            size / area,
            np.log(np.maximum(ended - formed, 0) + 1e-3),
            np.log(formed + 1e-3),
            np.log(ended + 1e-3),
            mean,
            (far - near) / np.maximum(around - area, 1),
            mean[parent],
            mean[sibling],
            np.log(share[sibling]),
            border.astype(float),
            np.abs(np.log((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]))),
        ],
        1,
    )


@dataclass(frozen=True, eq=False)
class LogisticRule:
    """A logistic rule on standardised facts."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, facts: np.ndarray) -> np.ndarray:
        """Probabilities, [...] from [..., facts]."""
        return np.asarray(1 / (1 + np.exp(-((facts - self.mean) / self.scale @ self.weights + self.bias))))


@dataclass(frozen=True, eq=False)
class Region:
    """A region of a picture that could be a thing: its box and pixels (bool [H, W]), and how likely it is one."""

    box: Box
    mask: np.ndarray
    score: float


@dataclass(frozen=True, eq=False)
class RegionProposals:
    """The merge trees of a picture.

    Attributes:
        size: Width and height of the picture.
        trees: One for each look.
        scores: How likely each region is a thing, one array a tree.
    """

    size: tuple[int, int]
    trees: tuple[RegionTree, ...]
    scores: tuple[np.ndarray, ...]

    def best(self, *, sure: float = SURE, fewest: int = FEWEST, most: int = MOST) -> list[Region]:
        """The likeliest regions that do not overlap much: those above `sure`, within the two counts."""
        boxes, scores = np.concatenate([tree.boxes for tree in self.trees]), np.concatenate(self.scores)
        kept = nms(boxes, scores, APART)[:most]
        return [self._region(place) for rank, place in enumerate(kept) if rank < fewest or scores[place] > sure]

    def at(self, x: float, y: float) -> Region | None:
        """The likeliest region that holds a place in pixels of the picture, None where none does."""
        middle = np.clip(np.array([x / self.size[0], y / self.size[1]]), 0, 1 - 1e-9)
        found: tuple[float, int, int] | None = None
        for number, (tree, scores) in enumerate(zip(self.trees, self.scores, strict=True)):
            near = np.flatnonzero((tree.boxes[:, :2] <= middle).all(1) & (middle < tree.boxes[:, 2:]).all(1))
            row, col = (middle[::-1] * tree.shape).astype(int)
            for own in near[np.argsort(-scores[near])]:
                if found is not None and scores[own] <= found[0]:
                    break
                if tree.patches(int(own))[row, col]:
                    found = float(scores[own]), number, int(own)
                    break
        if found is None:
            return None
        return self._region(sum(len(tree.nodes) for tree in self.trees[: found[1]]) + found[2])

    def _region(self, place: int) -> Region:
        starts = np.cumsum([0, *(len(tree.nodes) for tree in self.trees)])
        number = int(np.searchsorted(starts, place, "right")) - 1
        tree, own = self.trees[number], place - int(starts[number])
        mask = Image.fromarray(tree.patches(own)).resize(self.size, Image.Resampling.NEAREST)
        x0, y0, x1, y1 = (tree.boxes[own] * [*self.size, *self.size]).tolist()
        return Region((x0, y0, x1, y1), np.asarray(mask, bool), float(self.scores[number][own]))


class RegionProposer:
    """Grows the merge trees of pictures with the encoder that the rules were learnt for."""

    def __init__(self, encoder: Encoder, rules: Path = RULES) -> None:
        """Read the rules.

        Raises:
            Unavailable: They were learnt for another encoder, or are not there.
        """
        try:
            read = json.loads(rules.read_text(encoding="utf-8"))
            made = {name: [np.array(read[name][part]) for part in PARTS] for name in ("patch", "region")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"The rules that tell things from ground cannot be read at {rules}.") from error
        if read["encoder"] != [encoder.name, encoder.revision]:
            raise Unavailable(f"What tells things from ground was learnt for {read['encoder'][0]}, not {encoder.name}.")
        self.encoder, self.patch, self.region = encoder, LogisticRule(*made["patch"]), LogisticRule(*made["region"])
        self.digest = hashlib.sha256(rules.read_bytes()).hexdigest()[:8]

    def __call__(self, image: Image.Image) -> RegionProposals:
        """Grow those of an RGB picture."""
        trees = tuple(merge_regions(look, self.patch(look.deep)) for look in patch_features(self.encoder, image))
        return RegionProposals(image.size, trees, tuple(self.region(tree.region_features) for tree in trees))

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`; what no region holds stays as it was pointed at."""
        grown = self(image)

        def pointed(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            ys, xs = np.nonzero(mask.pixels)
            places = click_points(prompt, image.size) or [(float(xs.mean()), float(ys.mean()))]
            outline = np.zeros_like(mask.pixels)
            for x, y in places[:PLACES]:
                if (region := grown.at(x, y)) is not None:
                    outline |= region.mask
            return outline if outline.any() else mask.pixels

        return pointed
