"""Ward's merge tree over an image's patches: nested regions, of which one is the outline of a box."""

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
        nodes: Their numbers in the tree, [n].
        children: Children of each node that is no leaf, [leaves - 1, 2].
        shape: Rows and columns of patches.
    """

    boxes: np.ndarray
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


def merge_regions(features: PatchFeatures) -> RegionTree:
    """Build the merge tree over the patches of an image."""
    from sklearn.cluster import ward_tree
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.image import grid_to_graph

    rows, cols = features.tokens.shape[:2]
    flat = features.tokens.reshape(rows * cols, -1)
    main = PCA(min(COMPONENTS, *flat.shape), svd_solver="randomized", random_state=0).fit_transform(flat)
    colour = features.colour.reshape(rows * cols, 3) - features.colour.mean((0, 1))
    inputs = np.concatenate([main / max(main.std(), 1e-6), COLOUR_WEIGHT * colour / max(colour.std(), 1e-6)], 1)
    children, *_ = ward_tree(inputs, connectivity=grid_to_graph(rows, cols))
    boxes, sizes = _boxes(rows, cols, children)
    candidates = np.flatnonzero((sizes > 1) & (sizes <= MAX_SHARE * rows * cols))
    return RegionTree(boxes[candidates] / [cols, rows, cols, rows], candidates, children, (rows, cols))


def _boxes(rows: int, cols: int, children: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in patches [nodes, 4] and numbers of patches [nodes] of all nodes, leaves first."""
    count, total = rows * cols, rows * cols + len(children)
    boxes, sizes = np.zeros((total, 4), int), np.ones(total)
    row, col = np.divmod(np.arange(count), cols)
    boxes[:count] = np.stack([col, row, col + 1, row + 1], 1)
    for node, (a, b) in zip(range(count, total), children, strict=True):
        boxes[node] = *np.minimum(boxes[a, :2], boxes[b, :2]), *np.maximum(boxes[a, 2:], boxes[b, 2:])
        sizes[node] = sizes[a] + sizes[b]
    return boxes, sizes
