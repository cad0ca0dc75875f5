"""Models that put pictures and words into one space, by name. Reading the register imports no torch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from foir.errors import BadPrompt, Unavailable

if TYPE_CHECKING:
    import numpy as np

    from foir.encoders.base import Encoder, Prefix


@dataclass(frozen=True, eq=False)
class Words:
    """Texts in the joint space: unit vectors float32 [n, dim], and what a user should know (a text was cut)."""

    vectors: np.ndarray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Crossmodal:
    """A model of pictures and words.

    Attributes:
        encoder: Its image side; the features are in the joint space.
        words: Texts to the joint space.
        caption: One sentence for each picture of a prefix, or None where the model writes none.
    """

    encoder: Encoder
    words: Callable[[Sequence[str]], Words]
    caption: Callable[[Prefix], list[str]] | None = None


_Build = Callable[["Encoder"], Crossmodal]
_register: dict[str, _Build] = {}


def crossmodal(name: str) -> Callable[[_Build], _Build]:
    """Register a function that adds words to the encoder of the same name."""

    def add(build: _Build) -> _Build:
        _register[name] = build
        return build

    return add


@cache
def models() -> dict[str, _Build]:
    """All registered models, by the name of their encoder."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return dict(_register)


def load(encoder: Encoder) -> Crossmodal:
    """Add words to an encoder.

    Raises:
        Unavailable: The encoder has no text side that foir knows, or its weights are not at hand.
    """
    if encoder.name not in models():
        raise Unavailable(f"{encoder.name} knows no words; foir has words for {', '.join(models())}.")
    return models()[encoder.name](encoder)


def one_text(text: str) -> str:
    """A text as a person typed it, with its white space in order.

    Raises:
        BadPrompt: There is nothing in it.
    """
    words = " ".join(text.split())
    if not words:
        raise BadPrompt("The text is empty: say what to look for.")
    return words


def cut_notes(cut: Sequence[bool], limit: int) -> tuple[str, ...]:
    """What to say where any text was cut to `limit` tokens, two of which are no words."""
    return (f"Only the first {limit - 2} word pieces were read.",) if any(cut) else ()


__all__ = ["Crossmodal", "Words", "crossmodal", "cut_notes", "load", "models", "one_text"]
