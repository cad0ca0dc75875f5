"""Every experiment: its declaration beside its runner. A module's `EXPERIMENTS` are found by `registry`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from .specs import ExperimentSpec


@cache
def registry() -> dict[str, ExperimentSpec]:
    """Every experiment by name."""
    modules = [importlib.import_module(module.name) for module in pkgutil.iter_modules(__path__, f"{__name__}.")]
    return {experiment.name: experiment for module in modules for experiment in getattr(module, "EXPERIMENTS", ())}
