"""Prompt-guided attention head selection (PHS, arXiv 2504.01348): keep the heads that attend to the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foir.encoders.intervention import HeadGate, Intervention
from foir.errors import BadPrompt
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.block import LastBlock

ROI = ("sum", "max")
VARIANTS = ("before+scale", "before", "after", "after+scale", "identity")


@method("phs", title="Head selection", summary="Keeps the attention heads that look where you point.")
def phs(
    prompt: Prompt,
    mask: PatchMask,
    *,
    h_on: int = 5,
    roi: str = "sum",
    variant: str = "before+scale",
    keep: Sequence[int] = (),
    drop: Sequence[int] = (),
) -> Intervention:
    """Select the `h_on` heads of the last block with the most CLS attention on the prompt (Eqs 7-8, Tables A4, A5).

    Args:
        prompt: The fitted prompt.
        mask: Its region.
        h_on: Number of heads that stay on; a negative number counts from all heads (-1: all but one).
        roi: How a head's attention over the region is pooled: "sum" or "max".
        variant: What happens to the other heads. "before+scale" zeroes them before W_o and scales the rest by h/h_on;
            "before" does not scale; "after" zeroes their channel chunks after W_o, "after+scale" scales the rest;
            "identity" lets them attend to the CLS token only.
        keep: Heads that stay on whatever they attend to; they count among the `h_on`. Not in the paper.
        drop: Heads that are switched off. Not in the paper.

    Raises:
        BadPrompt: Unknown `roi` or `variant`. Raised when it runs: more heads than the encoder has, a head in `keep` or
            `drop` that does not exist or is in both, or every head off.
    """
    if roi not in ROI:
        raise BadPrompt(f"Unknown roi {roi!r}: use one of {', '.join(ROI)}.")
    if variant not in VARIANTS:
        raise BadPrompt(f"Unknown variant {variant!r}: use one of {', '.join(VARIANTS)}.")
    region = mask.patches.reshape(-1)

    def select(block: LastBlock, attention: Tensor) -> HeadGate:
        inside = attention[:, block.first_patch :][:, attention.new_tensor(region).bool()]
        relevance = inside.sum(-1) if roi == "sum" else inside.amax(-1)
        return gate(relevance, h_on, variant, keep, drop)

    return Intervention(heads=select)


def gate(
    relevance: Tensor, h_on: int, variant: str = "before+scale", keep: Sequence[int] = (), drop: Sequence[int] = ()
) -> HeadGate:
    """The gate that keeps the `h_on` heads with the largest `relevance` [h]; ties go to the lower head.

    Raises:
        BadPrompt: `h_on` is not in 1..h (or -1..1-h); see `phs`.
    """
    heads = len(relevance)
    count = h_on if h_on > 0 else heads + h_on
    if not (1 <= count <= heads) or h_on == 0:
        raise BadPrompt(f"This encoder has {heads} heads: choose 1 to {heads} of them, not {h_on}.")
    for head in (*keep, *drop):
        if head not in range(heads):
            raise BadPrompt(f"This encoder has the heads 0 to {heads - 1}, and no head {head}.")
    if both := set(keep) & set(drop):
        raise BadPrompt(f"Head {min(both)} cannot be on and off at once.")
    ranked = relevance.sort(descending=True, stable=True).indices.tolist()
    others = [head for head in ranked if head not in keep and head not in drop]
    selected = {*keep, *others[: max(0, count - len(set(keep)))]}
    if not selected:
        raise BadPrompt("Every head is off: leave one on.")
    scale = heads / len(selected) if variant.endswith("+scale") else 1.0
    factors = tuple(scale if i in selected else 0.0 for i in range(heads))
    ones = (1.0,) * heads
    if variant == "identity":
        return HeadGate(ones, own=tuple(i not in selected for i in range(heads)))
    return HeadGate(ones, after=factors) if variant.startswith("after") else HeadGate(factors)
