"""One stage of a training: a number of steps with checkpoints, which a killed stage goes on from."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from foir.errors import Unavailable
from foir.mini.training.ema_optimizer import EmaOptimizer

CHECKPOINT_SECONDS, LOG_STEPS = 240.0, 20


@dataclass(frozen=True)
class Stage:
    """What a stage is beside its settings and its data.

    Attributes:
        out: Folder for the trained parts.
        work: Folder for the checkpoint.
        hours: Its length, in hours of two CPU cores.
        seed: Random seed.
        start: Trained parts to go on from; None starts from the backbone.
        facts: About the training, for the files' headers.
        stop_after: See `run_stage`.
    """

    out: Path
    work: Path
    hours: float
    seed: int = 0
    start: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    stop_after: int | None = None


def run_stage(
    optimizer: EmaOptimizer, loss_of: Callable[[int], tuple[Tensor, Mapping[str, float]]], steps: int, checkpoint: Path,
    stage: str, *, seconds: float = CHECKPOINT_SECONDS, stop_after: int | None = None,
) -> bool:  # fmt: skip
    """Minimise a loss, and end with the averages of the weights.

    Args:
        optimizer: Of the weights.
        loss_of: The loss of a step, and its parts for the log. All that is random in it hangs on the step's number.
        steps: Of the stage.
        checkpoint: File that a killed stage goes on from; nobody removes it, so that a finished stage is found done.
        stage: What the stage is made of: a checkpoint of another one is refused.
        seconds: Between two checkpoints.
        stop_after: Step after which to stop, as if killed there.

    Returns:
        Whether the stage is done.

    Raises:
        Unavailable: The checkpoint is of another stage, or damaged.
    """
    first = _load(optimizer, checkpoint, stage)
    started = saved = time.perf_counter()
    sums: dict[str, float] = {}
    for step in range(first, steps):
        loss, parts = loss_of(step)
        optimizer.step(loss)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        now, done = time.perf_counter(), step + 1 - first
        if (step + 1) % LOG_STEPS == 0:
            means = ", ".join(f"{name} {value / LOG_STEPS:.3f}" for name, value in sums.items())
            log(f"step {step + 1}/{steps}: {means}; {(steps - step - 1) * (now - started) / done / 60:.0f} min left")
            sums = {}
        if step + 1 == stop_after:
            _save(optimizer, checkpoint, stage)
            return False
        if now - saved > seconds:
            _save(optimizer, checkpoint, stage)
            saved = now
    _save(optimizer, checkpoint, stage)
    optimizer.use_averages()
    return True


def log(line: str) -> None:
    """Write a progress line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _save(optimizer: EmaOptimizer, file: Path, stage: str) -> None:
    part = file.with_suffix(".part")
    torch.save({"stage": stage, **optimizer.state_dict()}, part)
    part.replace(file)


def _load(optimizer: EmaOptimizer, file: Path, stage: str) -> int:
    """The first step to do: 0 without a checkpoint."""
    if not file.exists():
        return 0
    failure = f"The checkpoint {file} is damaged, or of another training: delete it to begin this one again"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if state.pop("stage") != stage:
            raise ValueError
        optimizer.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise Unavailable(f"{failure}.") from error
    return optimizer.steps
