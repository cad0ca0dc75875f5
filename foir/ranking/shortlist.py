"""Query-DB on a CPU in two stages: a linear estimate picks some thousand images, which are then scored exactly.

The estimate freezes the last FFN and the norm of the final feature at their values with all heads on. The score of an
image under a gate is then linear in two stored vectors: a scan costs two dot products an image instead of the 18 d^2
operations of the exact tail.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.encoders.intervention import HeadGate
from foir.index.mmap import gather
from foir.index.records import Space
from foir.ranking.exact import BLOCK, row_blocks
from foir.ranking.topk import TopK, merge_top_k

SIZE = 12_000  # images scored exactly; `python -m eval bench query-db` measures their recall of the exact hundred
BATCH = 4096  # images finished at a time
LOUD = 256.0  # beside it the bias of W_o is small, so that half precision does not round its weights away
LARGE = 20_000  # images; with more of them the exact scan is too slow for a CPU


def is_worthwhile(encoder: Encoder, space: Space) -> bool:
    """Whether the exact scan would take too long on this device."""
    return encoder.device == "cpu" and sum(map(len, space.z)) > LARGE


class Shortlist:
    """The estimate's terms of a space: one exact pass over the head cache."""

    def __init__(self, encoder: Encoder, space: Space) -> None:
        """Finish every image with all heads on and keep its state before the final norm, float32 [n, d]."""
        self.encoder, self.space = encoder, space
        self.z = torch.cat([_float_tensor(part).flatten(1) for part in row_blocks(space.z, BLOCK)])
        residual = torch.cat([_float_tensor(part) for part in row_blocks(space.residual, BLOCK)])
        layer = encoder.layers[-1]
        norm: Any = encoder.norm  # a LayerNorm in every encoder of foir
        with torch.inference_mode():
            heads = self.z.view(len(self.z), layer.heads, -1).to(encoder.dtype)
            starts = range(0, len(heads), BATCH)
            tails = (layer.tail(heads[i : i + BATCH], residual[i : i + BATCH].to(encoder.dtype)) for i in starts)
            self.hidden = torch.cat([tail.float() for tail in tails])
            spread = self.hidden.var(-1, unbiased=False).add(norm.eps).sqrt()
            length = torch.cat([encoder.project(norm(self.hidden[i : i + BATCH])).norm(dim=-1) for i in starts])
            self.scale = 1 / (spread * length)
            self.shift = 1 / length
            eye = torch.eye(self.hidden.shape[1])
            zero = torch.zeros(1, self.hidden.shape[1])
            mix = layer.scale1(layer.out(torch.cat([zero, LOUD * eye]).to(encoder.dtype))).float()
            self.bias, self.mixing = mix[0], (mix[1:] - mix[0]) / LOUD  # of W_o; row i: contribution of channel i of z
            self.projected = encoder.project(eye) - encoder.project(zero)
            self.offset = encoder.project(zero)[0]

    def candidates(self, gate: HeadGate, vector: np.ndarray, count: int = SIZE) -> np.ndarray:
        """Rows with the largest estimates, ascending, at most `count`."""
        norm: Any = self.encoder.norm
        with torch.inference_mode():
            target = self.projected @ torch.from_numpy(vector)  # per channel of the normed state
            inner = target * norm.weight
            inner = inner - inner.mean()  # LayerNorm subtracts the mean
            before, channels = _factors(gate, self.z.shape[1])
            change = before * (self.mixing @ (channels * inner)) - self.mixing @ inner
            moved = self.hidden @ inner + self.z @ change + self.bias @ ((channels - 1) * inner)
            fixed = target @ norm.bias + self.offset @ torch.from_numpy(vector)
            scores = moved * self.scale + fixed * self.shift
            best = scores.topk(min(count, len(scores))).indices
        return np.sort(best.numpy())

    def search(self, gate: HeadGate, vector: np.ndarray, k: int, count: int = SIZE) -> TopK:
        """The k best images under a gate for one query [dim]: exact among the candidates."""
        rows = self.candidates(gate, vector, max(count, k))
        heads = self.z[torch.from_numpy(rows)].view(len(rows), self.encoder.heads, -1)
        gated, channels = gate.apply(heads)
        residual = gather(self.space.residual, rows)
        vectors = self.encoder.tail(gated, torch.from_numpy(residual), channels).numpy()
        top = merge_top_k([vectors @ vector[:, None]], 1, k)
        return TopK(top.scores, rows[top.rows])


def _factors(gate: HeadGate, width: int) -> tuple[Tensor, Tensor]:
    """Factors of a gate for every channel of z, and for every channel after W_o."""
    before = torch.tensor(gate.before).repeat_interleave(width // len(gate.before))
    after = gate.after or (1.0,) * len(gate.before)
    return before, torch.tensor(after).repeat_interleave(width // len(after))


def _float_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))
