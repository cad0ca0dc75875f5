"""Multi-object attention optimisation (MaO): one vector whose relevance maps cover all objects of an image.

v* = argmax_v sum_i IoU(E_i(v), m_i) + alpha <v, v_i> over the crops i of an image (MaO paper): E_i is the
LeGrad map of crop i for v, m_i its object's mask, v_i its plain vector. AdamW starts from the mean of the features as
they leave the model, whose length (37 for `mini`) makes its rate a small step, and v is normalised in every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.errors import BadPrompt
from foir.small_objects.legrad import CropFeatures
from foir.small_objects.overlap import Targets

Overlap = Callable[[Targets, Tensor], Tensor]


@dataclass(frozen=True)
class Mode:
    """A variant of the objective.

    Attributes:
        joint: One vector for all crops of an image; otherwise one for each crop.
        overlap: Measure between map and mask.
        anchored: The alignment is with the start of the same vector; otherwise with each crop's vector.
        per_map: Maps are scaled to 0..1 one by one; otherwise by the extremes of all maps of an image.
        alpha: Weight of the alignment.
        steps: Of AdamW.
        rate: Learning rate.
        whole: Maps are those of the full image instead of a crop of each object.
        union: All objects of an image are one mask; with `whole`.
    """

    joint: bool = True
    overlap: Overlap = Targets.soft_iou
    anchored: bool = False
    per_map: bool = True
    alpha: float = 0.03
    steps: int = 80
    rate: float = 0.1
    whole: bool = False
    union: bool = False

    @property
    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values, kept in manifests and results; "start" tells them from foir 0.1's unit start."""
        return {**asdict(self), "overlap": self.overlap.__name__, "start": "raw"}


MODES = {
    "paper": Mode(),
    "released": Mode(
        joint=False, overlap=Targets.dice, anchored=True, per_map=False, steps=100
    ),  # as in the released code
    "mini": Mode(alpha=0.3, steps=40),  # selected by `python -m eval run needles-dev`
    "full-image": Mode(whole=True, union=True),  # the paper's ablation
    "maskinversion": Mode(joint=False, overlap=Targets.dice, anchored=True, whole=True),  # one vector for each mask
}


def optimise(crops: CropFeatures, masks: Tensor, owner: Tensor, mode: Mode = MODES["paper"]) -> Tensor:
    """Optimise the vectors of several images at once (Stage B); each result is independent of the others.

    Args:
        crops: The crops of all images.
        masks: The object of each crop, 0 or 1, [K, H, W] at the crops' resolution; none may be empty.
        owner: Image of each crop, [K], every number from 0 to P - 1 at least once.
        mode: The variant of the objective.

    Returns:
        Unit vectors, [P, dim]; [K, dim] where the mode is not joint.

    Raises:
        BadPrompt: A mask is empty.
    """
    if not bool(masks.flatten(1).any(1).all()):
        raise BadPrompt("An object has an empty mask: leave it out.")
    targets = Targets.of(masks.to(crops.vectors), crops.grid)
    raw = _group_means(crops.vectors * crops.lengths, _groups(owner, mode))
    start = F.normalize(raw, dim=-1)
    raw.requires_grad_(True)
    adam = torch.optim.AdamW([raw], lr=mode.rate, weight_decay=0.0)
    for _ in range(mode.steps):
        adam.zero_grad()
        (-objective(raw, crops, targets, owner, mode, start)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return F.normalize(raw.detach(), dim=-1)


def objective(raw: Tensor, crops: CropFeatures, targets: Targets, owner: Tensor, mode: Mode, start: Tensor) -> Tensor:
    """The objective to maximise, summed over all images; `raw` holds one vector for each image, or each crop."""
    groups = _groups(owner, mode)
    vectors = F.normalize(raw, dim=-1)[groups]
    maps = targets.normalise(crops.maps(vectors), None if mode.per_map else owner)
    anchors = start[groups] if mode.anchored else crops.vectors
    return mode.overlap(targets, maps).sum() + mode.alpha * (vectors * anchors).sum()


def _groups(owner: Tensor, mode: Mode) -> Tensor:
    """Index of the vector that explains each crop."""
    return owner if mode.joint else torch.arange(len(owner), device=owner.device)


def mean_vector(vectors: Tensor, owner: Tensor) -> Tensor:
    """The unit mean of each image's unit vectors, [P, dim]: what Stage A trains, and a baseline of Stage B."""
    return F.normalize(_group_means(vectors, owner), dim=-1)


def _group_means(vectors: Tensor, owner: Tensor) -> Tensor:
    """The mean of each group's vectors, [P, dim]."""
    count = int(owner.max()) + 1
    sums = vectors.new_zeros(count, vectors.shape[1]).index_add(0, owner, vectors)
    return sums / owner.bincount(minlength=count)[:, None]
