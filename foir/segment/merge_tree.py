"""Ward's merge tree over an image's patches, and the features of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foir.segment.patch_features import PatchFeatures

COMPONENTS = 32  # principal components of the patches' features that the tree uses
COLOUR_WEIGHT = 3.0  # of a patch's mean colour beside them
MAX_SHARE = 0.6  # of the image that a region may cover


@dataclass(frozen=True, eq=False)
class RegionTree:
    """The nodes of a merge tree that are candidate regions.

    Attributes:
        boxes: (x0, y0, x1, y1) as shares of the image, [n, 4].
        region_features: Input of the region rule, [n, features].
        nodes: Their numbers in the tree, [n].
        children: Children of each node that is no leaf, [leaves - 1, 2].
        shape: Rows and columns of patches.
    """

    boxes: np.ndarray
    region_features: np.ndarray
    nodes: np.ndarray
    children: np.ndarray
    shape: tuple[int, int]

    def patches(self, region: int) -> np.ndarray:
        """The patches of a region, bool [rows, cols]."""
        leaves, queue = self.shape[0] * self.shape[1], [int(self.nodes[region])]
        mask = np.zeros(leaves, bool)
        while queue:
            node = queue.pop()
            if node < leaves:
                mask[node] = True
            else:
                queue += self.children[node - leaves].tolist()
        return mask.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class _Nodes:
    """All nodes of a tree, leaves first.

    Attributes:
        box: In patches, [nodes, 4].
        size: Number of patches.
        objectness: Sum over the patches.
        formed: Distance at which the node was merged.
        ended: Distance at which it was merged into its parent.
        parent: Node, -1 for the root.
        sibling: Node, -1 for the root.
    """

    box: np.ndarray
    size: np.ndarray
    objectness: np.ndarray
    formed: np.ndarray
    ended: np.ndarray
    parent: np.ndarray
    sibling: np.ndarray


def merge_regions(features: PatchFeatures, objectness: np.ndarray) -> RegionTree:
    """Build the merge tree and describe its nodes.

    Args:
        features: Patches of an image.
        objectness: Of each patch, 0..1, [rows, cols].
    """
    from sklearn.cluster import ward_tree
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.image import grid_to_graph

    rows, cols = objectness.shape
    flat = features.last.reshape(rows * cols, -1)
    main = PCA(min(COMPONENTS, *flat.shape), svd_solver="randomized", random_state=0).fit_transform(flat)
    colour = features.colour.reshape(rows * cols, 3) - features.colour.mean((0, 1))
    inputs = np.concatenate([main / max(main.std(), 1e-6), COLOUR_WEIGHT * colour / max(colour.std(), 1e-6)], 1)
    children, *_, distances = ward_tree(inputs, connectivity=grid_to_graph(rows, cols), return_distance=True)
    nodes = _merge(objectness, children, distances)
    candidates = np.flatnonzero((nodes.parent >= 0) & (nodes.size > 1) & (nodes.size <= MAX_SHARE * rows * cols))
    region_features = _region_features(nodes, objectness)[candidates]
    boxes = nodes.box[candidates] / [cols, rows, cols, rows]
    return RegionTree(boxes, region_features, candidates, children, (rows, cols))


def _merge(objectness: np.ndarray, children: np.ndarray, distances: np.ndarray) -> _Nodes:
    count, total = objectness.size, objectness.size + len(children)
    box, size, sums = np.zeros((total, 4), int), np.ones(total), np.zeros(total)
    formed, ended, parent, sibling = np.zeros(total), np.zeros(total), np.full(total, -1), np.full(total, -1)
    row, col = np.divmod(np.arange(count), objectness.shape[1])
    box[:count], sums[:count] = np.stack([col, row, col + 1, row + 1], 1), objectness.ravel()
    for node, (a, b), distance in zip(range(count, total), children, distances, strict=True):
        box[node] = *np.minimum(box[a, :2], box[b, :2]), *np.maximum(box[a, 2:], box[b, 2:])
        size[node], sums[node], formed[node] = size[a] + size[b], sums[a] + sums[b], distance
        ended[[a, b]], parent[[a, b]], sibling[[a, b]] = distance, node, (b, a)
    return _Nodes(box, size, sums, formed, ended, parent, sibling)


def _region_features(nodes: _Nodes, objectness: np.ndarray) -> np.ndarray:
    """Size, fill of the box, merge distances, objectness inside and around, border contact, aspect; [nodes, 13]."""
    (rows, cols), box = objectness.shape, nodes.box
    integral = np.pad(objectness.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def box_sum(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objectness and area of boxes."""
        total = integral[b[:, 3], b[:, 2]] - integral[b[:, 1], b[:, 2]] - integral[b[:, 3], b[:, 0]]
        return total + integral[b[:, 1], b[:, 0]], (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])

    (inner, inner_area), (outer, outer_area) = (
        box_sum(b) for b in (box, np.clip(box + [-1, -1, 1, 1], 0, [cols, rows, cols, rows]))
    )
    mean, share = nodes.objectness / nodes.size, nodes.size / (rows * cols)
    border = (box[:, 0] == 0) | (box[:, 1] == 0) | (box[:, 2] == cols) | (box[:, 3] == rows)
    return np.stack(
        [
            np.log(share),
            np.log(share) ** 2,
            nodes.size / inner_area,
            np.log(np.maximum(nodes.ended - nodes.formed, 0) + 1e-3),
            np.log(nodes.formed + 1e-3),
            np.log(nodes.ended + 1e-3),
            mean,
            (outer - inner) / np.maximum(outer_area - inner_area, 1),
            mean[nodes.parent],
            mean[nodes.sibling],
            np.log(share[nodes.sibling]),
            border.astype(float),
            np.abs(np.log((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]))),
        ],
        1,
    )
