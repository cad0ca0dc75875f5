"""ITAE: attention sinks get the least attention of all patches (arXiv 2410.04801, known from its abstract only).

Certain: it acts on the CLS row of the last block, finds sinks by the norm of one of query, key and value, and sets
their logits to the smallest patch logit of each head. The rule for the threshold is a reconstruction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from foir.encoders.intervention import Intervention
from foir.errors import BadPrompt
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.block import LastBlock

COMPONENTS, SIDES = ("q", "k", "v"), ("low", "high")
MAX_DEVIATIONS = 6.0  # of the log-norm from its median; a deviation is 1.4826 median absolute deviations
MAX_SHARE = 0.1  # of an image's patches that can be sinks
ATTENDED = 10.0  # times the uniform share of attention


@method(
    "itae", title="Without attention sinks", summary="Takes attention from sinks in the background.", uses_prompt=False
)
def itae(
    prompt: Prompt, mask: PatchMask, *, component: str = "v", side: str = "low", threshold: float | None = None
) -> Intervention:
    """Attenuate artifacts in the last block .

    Args:
        prompt: Ignored.
        mask: Ignored.
        component: Whose norms are compared: "q", "k" or "v".
        side: Whether sinks have "low" or "high" norms.
        threshold: Patches with norms beyond it are sinks. None decides for each image: outliers of the log-norm, a
            tenth of the patches at most, at least half of which get ten times the uniform share of CLS attention; else
            the image has no artifacts and nothing is changed.

    Raises:
        BadPrompt: Unknown component or side.
    """
    if component not in COMPONENTS or side not in SIDES:
        raise BadPrompt(
            f"Artifacts have {' or '.join(SIDES)} norms of {', '.join(COMPONENTS)}, not {side} of {component}."
        )

    def attenuate(block: LastBlock, logits: Tensor) -> Tensor:
        is_sink = sinks(block, logits, component, side, threshold)
        return silence(block, logits, is_sink) if is_sink.any() else logits

    return Intervention(logits={0: attenuate})


def norms(block: LastBlock, component: str) -> Tensor:
    """Norms of the patches' queries, keys or values over all heads, [n], for one image."""
    vectors = {"q": lambda: block.queries, "k": lambda: block.keys, "v": lambda: block.values}[component]()
    return vectors[:, block.first_patch :].transpose(0, 1).flatten(1).norm(dim=-1)


def sinks(
    block: LastBlock, logits: Tensor, component: str = "v", side: str = "low", threshold: float | None = None
) -> Tensor:
    """Patches of one image that are artifacts, bool [n]; see `itae`."""
    size = norms(block, component)
    if threshold is not None:
        return size <= threshold if side == "low" else size >= threshold
    is_outlier = outliers(size, side)
    is_attended = attended(block, logits)
    return is_outlier if (is_outlier & is_attended).sum() * 2 >= is_outlier.sum() else is_outlier & False


def outliers(size: Tensor, side: str) -> Tensor:
    """Norms [n] whose logarithm is an outlier on one side, bool [n]; the farthest ones where they are too many."""
    logs = size.clamp(min=1e-12).log()
    deviation = logs - logs.median()
    limit = MAX_DEVIATIONS * 1.4826 * deviation.abs().median()
    distance = -deviation if side == "low" else deviation
    is_outlier = distance > limit
    count = int(MAX_SHARE * len(size))
    if is_outlier.sum() > count:
        farthest = distance.sort(descending=True).values[max(count - 1, 0)]
        is_outlier = is_outlier & (distance >= farthest) & (count > 0)
    return is_outlier


def attended(block: LastBlock, logits: Tensor) -> Tensor:
    """Patches with more than `ATTENDED` times the uniform share of CLS attention, mean over heads, bool [n]."""
    attention = logits.softmax(-1).mean(0)
    return attention[block.first_patch :] > ATTENDED / logits.shape[-1]


def silence(block: LastBlock, logits: Tensor, is_sink: Tensor) -> Tensor:
    """Logits [h, T] with those of the sinks set to the smallest patch logit of each head."""
    patches = logits[:, block.first_patch :]
    smallest = patches.amin(-1, keepdim=True)
    out = logits.clone()
    out[:, block.first_patch :] = patches.where(~is_sink, smallest)
    return out


@dataclass(frozen=True)
class Diagnosis:
    """Attention sinks of an encoder on a sample of images.

    Attributes:
        component: Whose norms separate artifacts best.
        side: Whether their norms are "low" or "high".
        share: Share of all patches that are artifacts.
        before: Share of the CLS attention that they get.
        after: The same after attenuation.
        agreement: Intersection over union of the outliers and the patches with too much attention.
    """

    component: str
    side: str
    share: float
    before: float
    after: float
    agreement: float


def diagnose(blocks: Iterable[LastBlock]) -> Diagnosis | None:
    """Choose component and side by agreement with attention, over the last blocks of single images.

    Returns:
        None where there are no artifacts: no choice has half of its outliers attended.
    """
    import torch

    blocks = list(blocks)
    is_attended = torch.cat([attended(block, block.logits) for block in blocks])
    best: tuple[float, str, str] | None = None
    for component, side in product(COMPONENTS, SIDES):
        is_outlier = torch.cat([outliers(norms(block, component), side) for block in blocks])
        both = float((is_outlier & is_attended).sum())
        if not is_outlier.any() or 2 * both < float(is_outlier.sum()):
            continue
        agreement = both / float((is_outlier | is_attended).sum())
        if best is None or agreement > best[0]:
            best = agreement, component, side
    if best is None:
        return None
    agreement, component, side = best
    share: list[float] = []
    before: list[float] = []
    after: list[float] = []
    for block in blocks:
        is_sink = sinks(block, block.logits, component, side)
        share.append(float(is_sink.float().mean()))
        for mass, logits in ((before, block.logits), (after, silence(block, block.logits, is_sink))):
            mass.append(float(logits.softmax(-1)[:, block.first_patch :][:, is_sink].sum(-1).mean()))
    count = len(blocks)
    return Diagnosis(component, side, sum(share) / count, sum(before) / count, sum(after) / count, agreement)
