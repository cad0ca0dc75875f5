"""A GPU that is lent for the length of a call, as ZeroGPU Spaces do: blocks run there, prompts stay on the CPU.

The process that serves a Space never sees its GPU. A function that `spaces.GPU` wraps is run in another process, forked
from this one, that has it; what goes there and comes back is pickled. So a second copy of an encoder is put on the GPU
before the page is launched, pixels go to it, tokens come back, and what depends on a prompt is finished here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foir.encoders import has_zerogpu
from foir.encoders.base import Encoder

DEVICE = "cuda"
SECONDS = 10  # the longest a call may take; who asks for less waits less

_there: dict[tuple[str, str], Encoder] = {}


def with_remote_forward(encoder: Encoder, again: Callable[[], Encoder]) -> Encoder:
    """An encoder on the CPU whose blocks up to the last one run on a GPU that is lent.

    Args:
        encoder: It, on the CPU in float32.
        again: Gives it a second time, for the GPU. Called once for each name and revision.
    """
    key = (encoder.name, encoder.revision)
    if key not in _there:
        _there[key] = again().to(DEVICE, torch.float32)

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        deep, last = _run(key, pixels.numpy())
        return torch.from_numpy(deep), torch.from_numpy(last)

    return replace(encoder, remote_forward=run)


def _run(key: tuple[str, str], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What runs beside the GPU; a tensor that lies on it must not be sent back."""
    deep, last = _there[key].forward_blocks(torch.from_numpy(pixels))
    return deep.cpu().numpy(), last.cpu().numpy()


def _wrapped(run: Callable[..., Any]) -> Callable[..., Any]:
    """Declared while the page starts: a Space that wraps nothing is given no GPU."""
    import spaces  # brought by the Space

    return spaces.GPU(duration=SECONDS)(run)


if has_zerogpu():
    _run = _wrapped(_run)
