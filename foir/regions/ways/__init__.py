"""Ways of making region vectors, by name. A new one is a file in this package with one function under `@region_way`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from foir.errors import BadPrompt

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder, Prefix

Vectors = Callable[["Encoder", "Prefix", "Tensor", "Tensor | None"], "Tensor"]


@dataclass(frozen=True)
class RegionWay:
    """A registered way.

    Attributes:
        name: Registry name.
        summary: One sentence for a person.
        vectors: `(encoder, prefix of B pictures, masks bool [W, rows * cols], mean or None)` to unit vectors, float32
            [B, W, dim].
        meets_words: The vectors lie in the space of the encoder's own features, and so of its words.
        centred: The way whose mean [dim] over the collection is `mean`, which is subtracted; "" where none is.
    """

    name: str
    summary: str
    vectors: Vectors
    meets_words: bool
    centred: str = ""


_registry: dict[str, RegionWay] = {}


def region_way(name: str, *, summary: str, meets_words: bool, centred: str = "") -> Callable[[Vectors], Vectors]:
    """Register a function; see `RegionWay.vectors`."""

    def register(vectors: Vectors) -> Vectors:
        _registry[name] = RegionWay(name, summary, vectors, meets_words, centred)
        return vectors

    return register


@cache
def region_ways() -> dict[str, RegionWay]:
    """All registered ways, by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return dict(_registry)


def find_way(name: str) -> RegionWay:
    """The way of a name.

    Raises:
        BadPrompt: It is not registered.
    """
    if name not in region_ways():
        raise BadPrompt(f"There is no way {name!r} of making region vectors; foir knows {', '.join(region_ways())}.")
    return region_ways()[name]
