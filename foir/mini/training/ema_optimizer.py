"""The optimizer of `mini`: AdamW, one learning-rate schedule, and an exponential moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class EmaOptimizer:
    """AdamW with a short warm-up, half a cosine, clipped gradients, and a moving average of the parameters."""

    def __init__(
        self, groups: list[dict[str, Any]], steps: int, *, weight_decay: float, max_norm: float, ema_decay: float
    ) -> None:
        """Set up.

        Args:
            groups: Parameters and their peak learning rates, as torch.optim takes them.
            steps: Total number of steps.
            weight_decay: Weight decay.
            max_norm: Largest gradient norm.
            ema_decay: Decay of the moving average.
        """
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.averages = [p.detach().clone() for p in self.parameters]
        self.adam = torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.98))
        warm_up = max(1, min(100, steps // 10))

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / warm_up) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, step / steps))))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.adam, factor)
        self.max_norm, self.ema_decay, self.steps = max_norm, ema_decay, 0

    def step(self, loss: Tensor) -> None:
        """One descent step; the average follows, faster in the first steps."""
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.adam.step()
        self.schedule.step()
        self.steps += 1
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.parameters, strict=True):
                average.lerp_(parameter, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs, the parameters among it."""
        return {
            "parameters": [parameter.detach() for parameter in self.parameters],
            "averages": self.averages,
            "adam": self.adam.state_dict(),
            "schedule": self.schedule.state_dict(),
            "steps": self.steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        for kept, own in ((state["parameters"], self.parameters), (state["averages"], self.averages)):
            for tensor, target in zip(kept, own, strict=True):
                target.copy_(tensor)
        self.adam.load_state_dict(state["adam"])
        self.schedule.load_state_dict(state["schedule"])
        self.steps = state["steps"]

    @torch.no_grad()
    def use_averages(self) -> None:
        """Replace the parameters by their averages."""
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            parameter.copy_(average)
