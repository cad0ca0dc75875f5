"""Attention Mask: the CLS token of the last block attends to no patch outside the prompt (PHS paper, A1.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foir.encoders.intervention import Intervention
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.block import LastBlock


@method("attention_mask", title="Attention mask", summary="Lets the last block look inside the prompt only.")
def attention_mask(prompt: Prompt, mask: PatchMask, *, hide_special: bool = False) -> Intervention:
    """Set the CLS logits of all patches outside the prompt to minus infinity in the last block.

    Args:
        prompt: The fitted prompt.
        mask: Its region.
        hide_special: Also hide CLS and registers. The paper does not say; they stay visible by default.
    """
    outside = ~mask.patches.reshape(-1)

    def hide(block: LastBlock, logits: Tensor) -> Tensor:
        special = np.full(block.first_patch, hide_special)
        hidden = logits.new_tensor(np.concatenate([special, outside])).bool()
        return logits.masked_fill(hidden, float("-inf"))

    return Intervention(logits={0: hide})
