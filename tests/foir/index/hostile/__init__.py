"""Indexes that a stranger made to do harm, each derived from a valid one, changed, and signed again by its maker.

The valid index comes from the product's own writer and its keys are read from it, so that the attacks follow every
change of the format.
"""

from collections.abc import Callable
from pathlib import Path

from . import files, links, manifests, tables
from .draft import Draft, make_valid

__all__ = ["Draft", "attacks", "make_valid"]


def attacks(valid: Path) -> dict[str, Callable[[Draft], None]]:
    """All attacks by name, at least 100; `valid` is what `make_valid` made."""
    kinds = {
        "manifest": manifests.attacks(valid),
        "tensors": files.ATTACKS,
        "table": tables.ATTACKS,
        "link": links.ATTACKS,
    }
    return {f"{kind}: {name}": attack for kind, attacks in kinds.items() for name, attack in attacks.items()}
