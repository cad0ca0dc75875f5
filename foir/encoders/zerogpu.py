"""ZeroGPU Spaces, which lend a GPU for one call: transformer blocks run there, prompts are finished on the CPU.

The process that serves a Space never sees its GPU. A function wrapped by `spaces.GPU` runs in a forked process that has
it; arguments and results are pickled. So a second copy of an encoder is moved to the GPU before the page is launched:
pixels go to it, tokens come back, and prompts are finished here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foir.encoders.base import Encoder
from foir.encoders.devices import has_zerogpu

DEVICE = "cuda"
SECONDS = 10  # limit of one call; shorter limits wait less in the queue

_remote_encoders: dict[tuple[str, str], Encoder] = {}


def with_remote_forward(encoder: Encoder, build: Callable[[], Encoder]) -> Encoder:
    """An encoder on the CPU whose blocks before the last run on the lent GPU.

    Args:
        encoder: On the CPU in float32.
        build: Builds it a second time, for the GPU; called once for each name and revision.
    """
    key = (encoder.name, encoder.revision)
    if key not in _remote_encoders:
        _remote_encoders[key] = build().to(DEVICE, torch.float32)

    def forward(pixels: Tensor) -> tuple[Tensor, Tensor]:
        deep, last = _run(key, pixels.numpy())
        return torch.from_numpy(deep), torch.from_numpy(last)

    return replace(encoder, remote_forward=forward)


def _run(key: tuple[str, str], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs in the process with the GPU; its tensors must not be pickled, so NumPy arrays are returned."""
    deep, last = _remote_encoders[key].forward_blocks(torch.from_numpy(pixels))
    return deep.cpu().numpy(), last.cpu().numpy()


def _gpu_function(run: Callable[..., Any]) -> Callable[..., Any]:
    """Declared at import: a Space without a wrapped function gets no GPU."""
    import spaces  # installed on a Space

    return spaces.GPU(duration=SECONDS)(run)


if has_zerogpu():
    _run = _gpu_function(_run)
