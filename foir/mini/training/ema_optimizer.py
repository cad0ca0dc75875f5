"""How the parts of `mini` are optimised: AdamW, one schedule, and an average of the weights that is what is kept."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Optimiser:
    """AdamW with a short warm-up and half a cosine, clipped gradients, and a running average of the parameters."""

    def __init__(self, groups: list[dict[str, Any]], steps: int, *, decay: float, clip: float, memory: float) -> None:
        """Prepare.

        Args:
            groups: Parameters and their peak learning rates, as torch.optim takes them.
            steps: How many there will be.
            decay: Weight decay.
            clip: Largest norm of a gradient.
            memory: Decay of the running average.
        """
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.means = [p.detach().clone() for p in self.parameters]
        self.adam = torch.optim.AdamW(groups, weight_decay=decay, betas=(0.9, 0.98))
        warm = max(1, min(100, steps // 10))

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / warm) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, step / steps))))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.adam, rate)
        self.clip, self.memory, self.steps = clip, memory, 0

    def step(self, loss: Tensor) -> None:
        """One step down a loss; the average follows, faster at first."""
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.adam.step()
        self.schedule.step()
        self.steps += 1
        keep = min(self.memory, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for mean, parameter in zip(self.means, self.parameters, strict=True):
                mean.lerp_(parameter, 1 - keep)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the averages in the parameters' place."""
        for mean, parameter in zip(self.means, self.parameters, strict=True):
            parameter.copy_(mean)
