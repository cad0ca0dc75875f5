"""Registry of image-text models by name. Each family is one file of this package and registers itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from foir.arguments import checked
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.image_text.base import ImageTextModel

_NOT_FAMILIES = ("base", "registry")
_Build = Callable[..., ImageTextModel]


@dataclass(frozen=True)
class _Entry:
    """A model; see `register_model`."""

    build: _Build
    standalone: bool
    weights: str
    parameters: int
    brings_code: bool


_registry: dict[str, _Entry] = {}


def register_model(
    name: str, *, standalone: bool = False, weights: str = "", parameters: int = 0, brings_code: bool = False
) -> Callable[[_Build], _Build]:
    """Register a function that builds a model.

    Args:
        name: Registry name.
        standalone: The model has no encoder, and the function is `(name, revision, device, dtype, pretrained)`. If
            False, the function is `(encoder)` and adds a text side to the encoder of the same name.
        weights: Of a standalone model: a Hub repository, or "openclip:MODEL/TAG".
        parameters: Their number, where there is no untrained form to count them on.
        brings_code: The model's code comes with its weights, so a commit has to be named.
    """

    def register(build: _Build) -> _Build:
        _registry[name] = _Entry(build, standalone, weights, parameters, brings_code)
        return build

    return register


@cache
def models() -> dict[str, _Entry]:
    """All registered models, by name."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name not in _NOT_FAMILIES:
            importlib.import_module(f"{package}.{module.name}")
    return dict(_registry)


def encoder_models() -> tuple[str, ...]:
    """Names of the models whose image side is an encoder, so that an index can be built with them."""
    return tuple(name for name, entry in models().items() if not entry.standalone)


@checked
def load(
    model: Encoder | str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32",
    pretrained: bool = True,
) -> ImageTextModel:  # fmt: skip
    """Load a model by name, or add a text side to a loaded encoder.

    Args:
        model: A registered name, or an encoder.
        revision: Commit, tag or branch of the weights' repository; the newest if left out.
        device: "cpu", "cuda", "mps", or "auto" for the fastest available.
        dtype: "float32", "bfloat16", "float16" or "auto".
        pretrained: False gives the true architecture with seeded random weights, where the model supports it.

    Raises:
        Unavailable: The model has no text side, or its weights cannot be loaded.
    """
    from foir import encoders

    name = model if isinstance(model, str) else model.name
    dtype = encoders.resolve_dtype(dtype, device)
    entry = models().get(name)
    if entry is None:
        raise Unavailable(f"{name} encodes no text; these models do: {', '.join(models())}.")
    options: dict[str, Any] = {"revision": revision, "device": device, "dtype": dtype, "pretrained": pretrained}
    if entry.standalone:
        return entry.build(name, **(options | {"device": encoders.resolve_device(device)}))
    return entry.build(encoders.load(model, **options) if isinstance(model, str) else model)
