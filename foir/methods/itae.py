"""ITAE: patches that are attention sinks get the least attention of all (arXiv 2410.04801; its body could not be read).

What is certain: it acts in the last block on the CLS row, finds sinks by the norm of one of query, key and value, and
sets their logits to the smallest patch logit of each head. How the threshold is chosen is not known; the rule is ours.
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
SPREADS = 6.0  # deviations of the log-norm from its median, the deviation taken robustly as 1.4826 median absolute ones
MOST = 0.1  # share of a picture's patches that can be sinks
LOUD = 10.0  # times the even share of attention: what makes a patch suspicious


@method("itae", title="Without attention sinks", summary="Takes attention from sinks in the background.", pointed=False)
def itae(
    prompt: Prompt, mask: PatchMask, *, component: str = "v", side: str = "low", threshold: float | None = None
) -> Intervention:
    """Attenuate artifacts in the last block (specification, section 5).

    Args:
        prompt: Ignored.
        mask: Ignored.
        component: Whose norms are looked at: "q", "k" or "v".
        side: Whether sinks have "low" or "high" norms.
        threshold: Norms on that side of it are sinks. None decides by each picture's own norms and attention: outliers
            of the log-norm, a tenth of the patches at most, half of which the CLS token must look at ten times as much
            as evenly; else the picture has no artifacts and nothing is changed.

    Raises:
        BadPrompt: Unknown component or side.
    """
    if component not in COMPONENTS or side not in SIDES:
        raise BadPrompt(
            f"Artifacts have {' or '.join(SIDES)} norms of {', '.join(COMPONENTS)}, not {side} of {component}."
        )

    def attenuate(block: LastBlock, logits: Tensor) -> Tensor:
        found = sinks(block, logits, component, side, threshold)
        return least(block, logits, found) if found.any() else logits

    return Intervention(logits={0: attenuate})


def norms(block: LastBlock, component: str) -> Tensor:
    """Norms of the patches' queries, keys or values over all heads together, [n]; of one picture."""
    vectors = {"q": lambda: block.queries, "k": lambda: block.keys, "v": lambda: block.values}[component]()
    return vectors[:, block.first_patch :].transpose(0, 1).flatten(1).norm(dim=-1)


def sinks(
    block: LastBlock, logits: Tensor, component: str = "v", side: str = "low", threshold: float | None = None
) -> Tensor:
    """Which patches of one picture are artifacts, bool [n]; none where the rule finds none, see `itae`."""
    size = norms(block, component)
    if threshold is not None:
        return size <= threshold if side == "low" else size >= threshold
    found = outliers(size, side)
    loud = looked_at(block, logits)
    return found if (found & loud).sum() * 2 >= found.sum() else found & False


def outliers(size: Tensor, side: str) -> Tensor:
    """Norms [n] that lie far out on a side by their logarithm; the farthest where they are too many."""
    logs = size.clamp(min=1e-12).log()
    away = logs - logs.median()
    spread = SPREADS * 1.4826 * away.abs().median()
    far = -away if side == "low" else away
    found = far > spread
    most = int(MOST * len(size))
    if found.sum() > most:
        found = found & (far >= far.sort(descending=True).values[max(most - 1, 0)]) & (most > 0)
    return found


def looked_at(block: LastBlock, logits: Tensor) -> Tensor:
    """Patches that get more than `LOUD` times an even share of the CLS token's attention, mean over heads, bool [n]."""
    attention = logits.softmax(-1).mean(0)
    return attention[block.first_patch :] > LOUD / logits.shape[-1]


def least(block: LastBlock, logits: Tensor, found: Tensor) -> Tensor:
    """Logits [h, T] with those of the found patches set to the smallest patch logit of each head."""
    patches = logits[:, block.first_patch :]
    smallest = patches.amin(-1, keepdim=True)
    out = logits.clone()
    out[:, block.first_patch :] = patches.where(~found, smallest)
    return out


@dataclass(frozen=True)
class Diagnosis:
    """What a sample of pictures says about an encoder.

    Attributes:
        component: Whose norms tell artifacts best.
        side: On which side they lie.
        share: Share of all patches that are artifacts.
        before: Share of the CLS token's attention that they get.
        after: The same when they are attenuated.
        agreement: Intersection over union of the outliers and the patches that are looked at far too much.
    """

    component: str
    side: str
    share: float
    before: float
    after: float
    agreement: float


def diagnose(blocks: Iterable[LastBlock]) -> Diagnosis | None:
    """Choose component and side by agreement with attention, over the opened last blocks of single pictures.

    Returns:
        None where there are no artifacts: no choice has half of its outliers looked at.
    """
    import torch

    kept = list(blocks)
    loud = torch.cat([looked_at(block, block.logits) for block in kept])
    best: tuple[float, str, str] | None = None
    for component, side in product(COMPONENTS, SIDES):
        found = torch.cat([outliers(norms(block, component), side) for block in kept])
        hits = float((found & loud).sum())
        if not found.any() or 2 * hits < float(found.sum()):
            continue
        agreement = hits / float((found | loud).sum())
        if best is None or agreement > best[0]:
            best = agreement, component, side
    if best is None:
        return None
    agreement, component, side = best
    share: list[float] = []
    before: list[float] = []
    after: list[float] = []
    for block in kept:
        found = sinks(block, block.logits, component, side)
        share.append(float(found.float().mean()))
        for mass, logits in ((before, block.logits), (after, least(block, block.logits, found))):
            mass.append(float(logits.softmax(-1)[:, block.first_patch :][:, found].sum(-1).mean()))
    count = len(kept)
    return Diagnosis(component, side, sum(share) / count, sum(before) / count, sum(after) / count, agreement)
