"""Object-aware query perturbation (Q-Pert, arXiv 2407.12346): steers the queries of a cross-attention towards objects.

For every head, the keys of an object's tokens span a subspace; P projects on its leading directions, and the queries
become q + sum over objects of alpha P q, alpha = strength * g(area). Keys and values do not change. Keys depend on the
image alone, so the subspaces are computed once per image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foir.errors import BadPrompt
from foir.patches import PatchMask, coverage

CHUNK = 64  # objects whose keys are gathered at once
MAX_STRENGTH = 1000  # far beyond any effect
MIN_COVERAGE = 1e-3  # of a patch that a region selects without covering any of it

# Weight of an object by its share S of the image (the paper's five functions).
WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "1": torch.ones_like,
    "S": lambda share: share,
    "1-S": lambda share: 1 - share,
    "S-0.5": lambda share: share - 0.5,
    "0.5-S": lambda share: 0.5 - share,
}


@dataclass(frozen=True)
class Mode:
    """A variant of the method.

    Attributes:
        soft: Keys are weighted by the object's coverage of their patch; otherwise any overlap counts in full.
        strict: A direction is kept while the contribution is below theta, otherwise while it is at most theta.
        rows: Rows of the eigenvector matrix are taken for its leading eigenvectors.
        mean: Objects are averaged instead of summed.
        negative: The weight "1-S" is -S.
        orthogonal: The query is its part outside the subspace, (I - P) q, for every weight and every strength but
            0; the mean of these parts where the image has several objects.
        note: What a reader of results must know; empty where there is nothing to say.
    """

    soft: bool = False
    strict: bool = False
    rows: bool = False
    mean: bool = False
    negative: bool = False
    orthogonal: bool = False
    note: str = ""


# "legacy" is the released code, which takes rows of an eigenvector matrix for eigenvectors. Nothing fixes the signs of
# eigenvectors (nor their rotation where eigenvalues are equal), so what it projects on differs between machines.
# "orthogonal" is the supplement's OrQ-Pert; how it combines several objects is not published.
MODES = {
    "paper": Mode(),
    "legacy": Mode(
        soft=True, strict=True, rows=True, mean=True, negative=True,
        note="depends on the arbitrary signs of eigenvectors",
    ),
    "orthogonal": Mode(orthogonal=True),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects on the images of a batch.

    Attributes:
        images: Row of each object's image, int64 [m].
        coverage: Share of each token that the object covers, 0..1, float32 [m, tokens]; 0 for special tokens.
        shares: Area of the object as a share of the image's, float32 [m].
    """

    images: Tensor
    coverage: Tensor
    shares: Tensor

    @classmethod
    def from_regions(cls, regions: Sequence[Sequence[PatchMask]], first_patch: int) -> Objects:
        """Collate the objects of a batch.

        Args:
            regions: For each image the objects on it, all on one grid.
            first_patch: Number of special tokens before the patches (CLS, registers), which no object covers.
        """
        pairs = [(row, region) for row, image_regions in enumerate(regions) for region in image_regions]
        covered = [np.pad(_patch_coverage(region), (first_patch, 0)) for _, region in pairs]
        return cls(
            torch.tensor([row for row, _ in pairs], dtype=torch.long),
            torch.from_numpy(np.array(covered, np.float32).reshape(len(pairs), -1 if pairs else 0)),
            torch.tensor([region.pixels.mean() for _, region in pairs], dtype=torch.float32),
        )

    def to(self, device: str) -> Objects:
        """The objects on another device."""
        return Objects(self.images.to(device), self.coverage.to(device), self.shares.to(device))

    def take(self, rows: Tensor) -> tuple[Objects, Tensor]:
        """The objects of a batch made of the given rows of this one, and the index of each in this batch."""
        images, indices = (rows[:, None] == self.images[None]).nonzero(as_tuple=True)
        return Objects(images, self.coverage[indices], self.shares[indices]), indices


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A perturbation of every cross-attention of a model. The expensive `bases` do not depend on any query.

    Attributes:
        objects: The objects to emphasise.
        bases: For each cross-attention the result of `key_subspaces`.
        mode: One of `MODES`, in which the bases were computed; "legacy" depends on the arbitrary signs of eigenvectors.
        strength: The paper's w; 0 changes nothing.
        weight: One of `WEIGHTS`.
    """

    objects: Objects
    bases: tuple[Tensor, ...]
    mode: str = "paper"
    strength: float = 0.0
    weight: str = "1"

    @classmethod
    def from_keys(
        cls, keys: Sequence[Tensor], objects: Objects, *, theta: float = 0.95, mode: str = "paper",
        strength: float = 0.0, weight: str = "1",
    ) -> Perturbation:  # fmt: skip
        """Compute the bases.

        Args:
            keys: Of each cross-attention, [B, h, tokens, D].
            objects: The objects to emphasise.
            theta: See `key_subspaces`.
            mode: One of `MODES`; "legacy" depends on the arbitrary signs of eigenvectors.
            strength: The paper's w.
            weight: One of `WEIGHTS`.

        Raises:
            BadPrompt: Unknown weight or mode, or theta or strength out of range.
        """
        _weight(weight)
        if not (0 <= theta <= 1 and abs(strength) <= MAX_STRENGTH):
            raise BadPrompt(
                f"Theta lies between 0 and 1 and a strength within {MAX_STRENGTH}, not at {theta}, {strength}."
            )
        return cls(objects, tuple(key_subspaces(site, objects, theta, mode) for site in keys), mode, strength, weight)

    def take(self, rows: Tensor) -> Perturbation:
        """The perturbation of a batch made of the given rows of this one; rows may repeat."""
        objects, indices = self.objects.take(rows)
        return replace(self, objects=objects, bases=tuple(basis[indices] for basis in self.bases))

    def __call__(self, site: int, queries: Tensor) -> Tensor:
        """Perturb the queries [B, h, n, D] of one cross-attention; strength 0 returns them unchanged."""
        return perturb_queries(queries, self.bases[site], self.objects, self.strength, self.weight, self.mode)

    def to_tensors(self) -> dict[str, Tensor]:
        """The expensive parts as named tensors for safetensors; `strength` and `weight` are not among them."""
        objects = self.objects
        tensors = {"pictures": objects.images, "coverage": objects.coverage, "shares": objects.shares}
        return tensors | {f"bases.{i}": basis.contiguous() for i, basis in enumerate(self.bases)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], mode: str = "paper") -> Perturbation:
        """The inverse of `to_tensors`, with strength 0."""
        objects = Objects(tensors["pictures"], tensors["coverage"], tensors["shares"])
        return cls(objects, tuple(tensors[f"bases.{i}"] for i in range(len(tensors) - 3)), mode)


def key_subspaces(keys: Tensor, objects: Objects, theta: float, mode: str = "paper") -> Tensor:
    """Bases of the objects' key subspaces, float32 [m, h, D, p]: P = basis @ basis.T, padded with zero columns.

    A direction is kept while the leading ones up to it hold at most `theta` of the object's key energy; the first is
    always kept. An object that covers no token has no direction.

    Args:
        keys: After the key projection, before scores, [B, h, tokens, D]; layers can be stacked along h.
        objects: The objects to emphasise.
        theta: Largest energy share of the kept directions, 0..1.
        mode: One of `MODES`; "legacy" depends on the arbitrary signs of eigenvectors.
    """
    variant = _mode(mode)
    if not len(objects.shares):
        return keys.new_zeros(0, keys.shape[1], keys.shape[3], 0, dtype=torch.float32)
    starts = range(0, len(objects.shares), CHUNK)
    bases = torch.cat([_bases(keys, objects, slice(start, start + CHUNK), theta, variant) for start in starts])
    return bases[..., : int((bases != 0).any(-2).sum(-1).max())]


def perturb_queries(
    queries: Tensor, bases: Tensor, objects: Objects, strength: float, weight: str = "1", mode: str = "paper"
) -> Tensor:
    """Perturb queries [B, h, n, D] by all objects of their images; strength 0 returns them unchanged.

    Args:
        queries: After the query projection, before scores.
        bases: From `key_subspaces`.
        objects: The same objects.
        strength: The paper's w.
        weight: One of `WEIGHTS`.
        mode: One of `MODES`; "legacy" depends on the arbitrary signs of eigenvectors.

    Raises:
        BadPrompt: Unknown weight or mode.
    """
    variant, weight_function = _mode(mode), _weight(weight)
    if strength == 0 or not len(objects.shares):
        return queries
    weights = -objects.shares if variant.negative and weight == "1-S" else weight_function(objects.shares)
    alpha = -torch.ones_like(objects.shares) if variant.orthogonal else strength * weights
    if variant.mean or variant.orthogonal:
        alpha = alpha / torch.bincount(objects.images, minlength=len(queries))[objects.images]
    inside = queries[objects.images].float() @ bases @ bases.transpose(-1, -2)
    change = alpha[:, None, None, None] * inside
    return (queries.float().index_add(0, objects.images, change)).to(queries.dtype)


def _bases(keys: Tensor, objects: Objects, chunk: slice, theta: float, variant: Mode) -> Tensor:
    """Bases of a chunk of the objects, [chunk, h, D, D]."""
    coverage = objects.coverage[chunk]
    weights = coverage if variant.soft else (coverage > 0).float()
    object_keys = keys[objects.images[chunk]].float() * weights[:, None, :, None]
    energy, directions = torch.linalg.eigh(object_keys.transpose(-1, -2) @ object_keys)
    energy, directions = energy.flip(-1).clamp(min=0), directions.flip(-1)
    total = energy.sum(-1, keepdim=True)
    share = (energy.cumsum(-1) / total.clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1)
    kept = share < theta if variant.strict else share <= theta
    kept[..., 0] = True
    kept &= total > 0
    if variant.rows:
        directions = directions.transpose(-1, -2)
    return directions * kept.unsqueeze(-2)


def _patch_coverage(region: PatchMask) -> np.ndarray:
    """Coverage of each patch by a region, [rows * cols]; `MIN_COVERAGE` where the region only selects it."""
    covered = coverage(region.pixels, region.patches.shape)
    return np.where(region.patches, np.maximum(covered, MIN_COVERAGE), 0.0).reshape(-1)


def _mode(name: str) -> Mode:
    if name not in MODES:
        raise BadPrompt(f"Unknown mode {name!r}: use one of {', '.join(MODES)}.")
    return MODES[name]


def _weight(name: str) -> Callable[[Tensor], Tensor]:
    if name not in WEIGHTS:
        raise BadPrompt(f"Unknown weight {name!r}: use one of {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]
