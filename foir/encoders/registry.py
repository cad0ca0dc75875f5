"""The registry of image encoders: one file of this package registers one family."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.arguments import checked
from foir.encoders.devices import has_zerogpu, resolve_device, resolve_dtype
from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

SHARED = {"base", "block", "devices", "intervention", "patch_pooled", "registry", "zerogpu"}  # others are families


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of an encoder before it is loaded.

    Attributes:
        name: Registry name; one that ends in ":" stands for a family ("openclip:MODEL/TAG").
        weights: Source of its weights: a Hub repository, or a description.
        licence: Licence of the weights.
        build: `(spec, name, revision, pretrained) -> Encoder` on the CPU in float32.
        dim: Width d; 0 where only the checkpoint knows.
        heads: Attention heads of a block; 0 likewise.
        blocks: Number of blocks; 0 likewise.
        promptable: Whether prompts can steer it; else it serves to measure MaO.
        terms: What has to be known, beside the licence, before its weights are used; a sentence or nothing.
    """

    name: str
    weights: str
    licence: str
    build: Callable[[EncoderSpec, str, str | None, bool], Encoder]
    dim: int = 0
    heads: int = 0
    blocks: int = 0
    promptable: bool = True
    terms: str = ""


_registry: dict[str, EncoderSpec] = {}
_Build = Callable[[EncoderSpec, str, "str | None", bool], "Encoder"]


def register_encoder(name: str, **facts: Any) -> Callable[[_Build], _Build]:
    """Register a build function; `facts` are fields of `EncoderSpec`. One function may have several names."""

    def register(build: _Build) -> _Build:
        _registry[name] = EncoderSpec(name=name, build=build, **facts)
        return build

    return register


@cache
def encoder_specs() -> dict[str, EncoderSpec]:
    """All registered encoders, by name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name not in SHARED:
            importlib.import_module(f"foir.encoders.{module.name}")
    return dict(_registry)


@checked
def encoder_spec(name: str) -> EncoderSpec:
    """The spec of an encoder.

    Raises:
        Unavailable: No encoder has this name.
    """
    family = name.split(":")[0] + ":"
    spec = encoder_specs().get(name) or (encoder_specs().get(family) if ":" in name else None)
    if spec is None or name == family:
        known = ", ".join(n + "..." if n.endswith(":") else n for n in encoder_specs())
        raise Unavailable(f"There is no encoder {name!r}; foir knows {known}.")
    return spec


def weight_terms(names: Iterable[str]) -> list[str]:
    """The terms of those of the named encoders that have some; see `EncoderSpec`."""
    specs = encoder_specs()
    return [specs[name].terms for name in dict.fromkeys(names) if name in specs and specs[name].terms]


@checked
def load(
    name: str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32", pretrained: bool = True
) -> Encoder:
    """Load an encoder.

    Args:
        name: A registered name, such as "dinov2-base-reg", "clip-large", "openclip:ViT-B-32/laion2b_s34b_b79k", "mini".
        revision: Commit, tag or branch of the weights' repository; the newest if left out.
        device: "cpu", "cuda", "mps", or "auto" for the fastest one present (see also `has_zerogpu`).
        dtype: "float32", "bfloat16", "float16", or "auto" (`resolve_dtype`).
        pretrained: False gives the true architecture with seeded random weights, for tests and measurements.

    Raises:
        Unavailable: Unknown name, device or dtype, or weights that are neither cached nor reachable.
    """
    spec = encoder_spec(name)
    dtype = resolve_dtype(dtype, device)
    import torch

    encoder = spec.build(spec, name, revision, pretrained)
    if device == "auto" and has_zerogpu():
        from foir.encoders import zerogpu

        return zerogpu.with_remote_forward(encoder, lambda: spec.build(spec, name, revision, pretrained))
    return encoder.to(resolve_device(device), getattr(torch, dtype))
