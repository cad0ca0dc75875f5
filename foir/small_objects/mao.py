"""Multi-object attention optimisation: the one vector whose relevance maps cover all objects of a picture.

v* = argmax_v sum_i IoU(E_i(v), m_i) + alpha <v, v_i> over the crops i of a picture (MaO spec, section 4): E_i is the
LeGrad map of crop i for v, m_i its object's mask, v_i its plain vector. AdamW on the raw vector, which is taken at unit
length in every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.errors import BadPrompt
from foir.small_objects.legrad import Crops
from foir.small_objects.overlap import Targets

Overlap = Callable[[Targets, Tensor], Tensor]


@dataclass(frozen=True)
class Mode:
    """How the objective is read.

    Attributes:
        joint: One vector for all crops of a picture; else one for each crop.
        overlap: Between map and mask.
        anchored: The alignment is with the start of the same vector instead of with each crop's.
        per_map: Maps are stretched to 0..1 one by one; else with the extremes of all maps of a picture.
        alpha: Weight of the alignment.
        steps: Of AdamW.
        rate: Its learning rate.
        whole: Maps are those of the whole picture instead of a crop of each object.
        union: All objects of a picture are one mask; with `whole`.
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
    def facts(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {**asdict(self), "overlap": self.overlap.__name__}


MODES = {
    "paper": Mode(),
    "released": Mode(joint=False, overlap=Targets.dice, anchored=True, per_map=False, steps=100),  # spec, section 8
    "mini": Mode(alpha=1.0, steps=40),  # chosen by `python -m eval run needles-dev`
    "full-image": Mode(whole=True, union=True),  # the paper's ablation
    "maskinversion": Mode(joint=False, overlap=Targets.dice, anchored=True, whole=True),  # one vector for each mask
}


def optimise(crops: Crops, masks: Tensor, owner: Tensor, mode: Mode = MODES["paper"]) -> Tensor:
    """Stage B for several pictures at once; each comes out as it would alone.

    Args:
        crops: The crops of all pictures.
        masks: Where each crop's object is, 0 or 1, [K, H, W] at the crops' resolution; none may be empty.
        owner: Which picture each crop is of, [K], every number from 0 to P - 1 at least once.
        mode: How the objective is read.

    Returns:
        Unit vectors, [P, dim]; [K, dim] where the mode takes each crop alone.

    Raises:
        BadPrompt: A mask is empty.
    """
    if not bool(masks.flatten(1).any(1).all()):
        raise BadPrompt("An object has an empty mask: leave it out.")
    targets = Targets.of(masks.to(crops.vectors), crops.grid)
    start = mean_vector(crops.vectors, _groups(owner, mode))
    raw = start.clone().requires_grad_(True)
    adam = torch.optim.AdamW([raw], lr=mode.rate, weight_decay=0.0)
    for _ in range(mode.steps):
        adam.zero_grad()
        (-objective(raw, crops, targets, owner, mode, start)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return F.normalize(raw.detach(), dim=-1)


def objective(raw: Tensor, crops: Crops, targets: Targets, owner: Tensor, mode: Mode, start: Tensor) -> Tensor:
    """The sum that is made large, over all pictures; `raw` holds one vector for each picture, or each crop."""
    groups = _groups(owner, mode)
    each = F.normalize(raw, dim=-1)[groups]
    maps = targets.stretched(crops.maps(each), None if mode.per_map else owner)
    anchors = start[groups] if mode.anchored else crops.vectors
    return mode.overlap(targets, maps).sum() + mode.alpha * (each * anchors).sum()


def _groups(owner: Tensor, mode: Mode) -> Tensor:
    """Which vector each crop is explained by."""
    return owner if mode.joint else torch.arange(len(owner), device=owner.device)


def mean_vector(vectors: Tensor, owner: Tensor) -> Tensor:
    """The unit mean of each picture's unit vectors, [P, dim]: where Stage B starts, and a baseline."""
    sums = vectors.new_zeros(int(owner.max()) + 1, vectors.shape[1]).index_add(0, owner, vectors)
    return F.normalize(sums, dim=-1)
