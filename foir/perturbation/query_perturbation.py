"""Object-aware query perturbation (Q-Pert, arXiv 2407.12346): queries of a cross-attention lean towards chosen objects.

For every head, the keys of an object's tokens span a subspace; P projects on its leading directions, and the queries
become q + sum over objects of alpha P q, alpha = strength * g(area). Keys and values stay as they are. Keys depend on
the picture alone, so the subspaces are made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foir.errors import BadPrompt
from foir.patches import PatchMask, coverage

CHUNK = 64  # objects whose keys are gathered at a time
STRONGEST = 1000  # of a pull; far more than changes anything
LEAST = 1e-3  # coverage of a patch that a region selects without covering any of it

# How an object's share S of the picture sets its weight (the paper's five functions).
WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "1": torch.ones_like,
    "S": lambda share: share,
    "1-S": lambda share: 1 - share,
    "S-0.5": lambda share: share - 0.5,
    "0.5-S": lambda share: 0.5 - share,
}


@dataclass(frozen=True)
class Mode:
    """A reading of the method.

    Attributes:
        soft: Keys are weighed by how much of their patch the object covers; else any overlap counts whole.
        strict: A direction stays while the contribution is below theta, not at most theta.
        rows: Coordinate rows of the eigenvector matrix stand for its leading eigenvectors.
        mean: Objects are averaged, not summed.
        negative: The weight "1-S" is -S.
        across: What is scaled is the part of the query outside the subspace.
    """

    soft: bool = False
    strict: bool = False
    rows: bool = False
    mean: bool = False
    negative: bool = False
    across: bool = False


MODES = {
    "paper": Mode(),
    "legacy": Mode(soft=True, strict=True, rows=True, mean=True, negative=True),  # what the released code does
    "orthogonal": Mode(across=True),  # the paper's OrQ-Pert
}


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects on the pictures of a batch.

    Attributes:
        pictures: Row of each object's picture, int64 [m].
        coverage: How much of each token the object covers, 0..1, float32 [m, tokens]; 0 for tokens that are no patches.
        shares: Area of the object as a share of the picture's, float32 [m].
    """

    pictures: Tensor
    coverage: Tensor
    shares: Tensor

    @classmethod
    def of(cls, regions: Sequence[Sequence[PatchMask]], special: int) -> Objects:
        """The objects of each picture of a batch.

        Args:
            regions: Of each picture the objects on it, all on one grid.
            special: Tokens before the patches (CLS, registers), which belong to no object.
        """
        known = [(picture, region) for picture, some in enumerate(regions) for region in some]
        covered = [np.pad(_covered(region), (special, 0)) for _, region in known]
        return cls(
            torch.tensor([picture for picture, _ in known], dtype=torch.long),
            torch.from_numpy(np.array(covered, np.float32).reshape(len(known), -1 if known else 0)),
            torch.tensor([region.pixels.mean() for _, region in known], dtype=torch.float32),
        )

    def to(self, device: str) -> Objects:
        """The same on another device."""
        return Objects(self.pictures.to(device), self.coverage.to(device), self.shares.to(device))

    def take(self, rows: Tensor) -> tuple[Objects, Tensor]:
        """The objects of a batch made of the given rows of this one, and which of these objects each of them is."""
        hit = rows[:, None] == self.pictures[None]
        pictures, places = hit.nonzero(as_tuple=True)
        return Objects(pictures, self.coverage[places], self.shares[places]), places


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What pulls at the queries of every cross-attention of a model; the costly part, `bases`, depends on no query.

    Attributes:
        objects: What is pulled at.
        bases: Of each cross-attention, from `subspaces`.
        mode: One of `MODES`; the bases were made in it.
        strength: The paper's w; 0 changes nothing.
        weight: One of `WEIGHTS`.
    """

    objects: Objects
    bases: tuple[Tensor, ...]
    mode: str = "paper"
    strength: float = 0.0
    weight: str = "1"

    @classmethod
    def of(
        cls, keys: Sequence[Tensor], objects: Objects, *, theta: float = 0.95, mode: str = "paper",
        strength: float = 0.0, weight: str = "1",
    ) -> Perturbation:  # fmt: skip
        """Make the bases.

        Args:
            keys: Of each cross-attention, [B, h, tokens, D].
            objects: What to pull at.
            theta: See `subspaces`.
            mode: One of `MODES`.
            strength: The paper's w.
            weight: One of `WEIGHTS`.

        Raises:
            BadPrompt: There is no such weight or mode.
        """
        _weight(weight)
        if not (0 <= theta <= 1 and abs(strength) <= STRONGEST):
            raise BadPrompt(
                f"Theta lies between 0 and 1 and a strength within {STRONGEST}, not at {theta}, {strength}."
            )
        bases = tuple(subspaces(some, objects, theta, mode) for some in keys)
        return cls(objects, bases, mode, strength, weight)

    def take(self, rows: Tensor) -> Perturbation:
        """For a batch made of the given rows of this one, each as often as it is named."""
        objects, places = self.objects.take(rows)
        return replace(self, objects=objects, bases=tuple(basis[places] for basis in self.bases))

    def __call__(self, site: int, queries: Tensor) -> Tensor:
        """The queries [B, h, n, D] of a cross-attention, pulled; the very same ones for strength 0."""
        return perturb(queries, self.bases[site], self.objects, self.strength, self.weight, self.mode)

    def tensors(self) -> dict[str, Tensor]:
        """What is worth keeping of a picture, as safetensors writes it; `strength` and `weight` are cheap to choose."""
        objects = self.objects
        known = {"pictures": objects.pictures, "coverage": objects.coverage, "shares": objects.shares}
        return known | {f"bases.{i}": basis.contiguous() for i, basis in enumerate(self.bases)}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor], mode: str = "paper") -> Perturbation:
        """What `tensors` gave, of strength 0."""
        objects = Objects(kept["pictures"], kept["coverage"], kept["shares"])
        return cls(objects, tuple(kept[f"bases.{i}"] for i in range(len(kept) - 3)), mode)


def subspaces(keys: Tensor, objects: Objects, theta: float, mode: str = "paper") -> Tensor:
    """Bases of the objects' key subspaces, float32 [m, h, D, p]: P = basis @ basis.T, zero columns behind the last.

    A direction counts while the leading ones up to it hold at most `theta` of the object's key energy, the first
    always. An object without a single key has no direction at all.

    Args:
        keys: After the key projection, before scores, [B, h, tokens, D]; layers can be stacked along h.
        objects: What to lean towards.
        theta: Largest contribution of the kept directions, 0..1.
        mode: One of `MODES`.
    """
    how = _mode(mode)
    if not len(objects.shares):
        return keys.new_zeros(0, keys.shape[1], keys.shape[3], 0, dtype=torch.float32)
    starts = range(0, len(objects.shares), CHUNK)
    bases = torch.cat([_bases(keys, objects, slice(start, start + CHUNK), theta, how) for start in starts])
    return bases[..., : int((bases != 0).any(-2).sum(-1).max())]


def perturb(
    queries: Tensor, bases: Tensor, objects: Objects, strength: float, weight: str = "1", mode: str = "paper"
) -> Tensor:
    """The queries [B, h, n, D] after all objects of their pictures pulled at them; the very same ones for strength 0.

    Args:
        queries: After the query projection, before scores.
        bases: From `subspaces`.
        objects: The same as there.
        strength: The paper's w.
        weight: One of `WEIGHTS`.
        mode: One of `MODES`.

    Raises:
        BadPrompt: There is no such weight or mode.
    """
    how, by_share = _mode(mode), _weight(weight)
    if strength == 0 or not len(objects.shares):
        return queries
    by_area = -objects.shares if how.negative and weight == "1-S" else by_share(objects.shares)
    alpha = strength * by_area
    if how.mean:
        alpha = alpha / torch.bincount(objects.pictures, minlength=len(queries))[objects.pictures]
    own = queries[objects.pictures].float()
    inside = own @ bases @ bases.transpose(-1, -2)
    pulled = alpha[:, None, None, None] * (own - inside if how.across else inside)
    return (queries.float().index_add(0, objects.pictures, pulled)).to(queries.dtype)


def _bases(keys: Tensor, objects: Objects, part: slice, theta: float, how: Mode) -> Tensor:
    """Bases of some of the objects, [part, h, D, D]."""
    coverage = objects.coverage[part]
    weighed = coverage if how.soft else (coverage > 0).float()
    own = keys[objects.pictures[part]].float() * weighed[:, None, :, None]
    energy, directions = torch.linalg.eigh(own.transpose(-1, -2) @ own)
    energy, directions = energy.flip(-1).clamp(min=0), directions.flip(-1)
    total = energy.sum(-1, keepdim=True)
    share = (energy.cumsum(-1) / total.clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1)
    kept = share < theta if how.strict else share <= theta
    kept[..., 0] = True
    kept &= total > 0
    if how.rows:
        directions = directions.transpose(-1, -2)
    return directions * kept.unsqueeze(-2)


def _covered(region: PatchMask) -> np.ndarray:
    """How much of each patch a region covers, [rows * cols]; the least touch where it only selects it."""
    covered = coverage(region.pixels, region.patches.shape)
    return np.where(region.patches, np.maximum(covered, LEAST), 0.0).reshape(-1)


def _mode(name: str) -> Mode:
    if name not in MODES:
        raise BadPrompt(f"Unknown mode {name!r}: use one of {', '.join(MODES)}.")
    return MODES[name]


def _weight(name: str) -> Callable[[Tensor], Tensor]:
    if name not in WEIGHTS:
        raise BadPrompt(f"Unknown weight {name!r}: use one of {', '.join(WEIGHTS)}.")
    return WEIGHTS[name]
