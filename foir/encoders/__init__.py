"""Image encoders by name. Reading the register imports no torch; only `load` does."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from foir.errors import Unavailable

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

MACHINERY = {"base", "block", "borrowed", "intervention", "pooled"}  # every other file here registers a family
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of an encoder before it is loaded.

    Attributes:
        name: Registry name; one that ends in ":" stands for a family ("openclip:MODEL/TAG").
        weights: Where its weights come from (a Hub repository, or words).
        licence: Licence of the weights.
        dim: Width d; 0 where only the checkpoint knows.
        heads: Heads of a block; 0 likewise.
        blocks: Number of blocks; 0 likewise.
        pointed: Whether prompts can steer it; else it is for measuring MaO alone.
        build: `(card, name, revision, pretrained) -> Encoder` on the CPU in float32.
    """

    name: str
    weights: str
    licence: str
    dim: int
    heads: int
    blocks: int
    promptable: bool
    build: Callable[[EncoderSpec, str, str | None, bool], Encoder]


_register: dict[str, EncoderSpec] = {}
_Build = Callable[[EncoderSpec, str, "str | None", bool], "Encoder"]


def register_encoder(
    name: str,
    *,
    weights: str,
    licence: str,
    dim: int = 0,
    heads: int = 0,
    blocks: int = 0,
    pointed: bool = True,
) -> Callable[[_Build], _Build]:
    """Register a build function under a name; one function may carry several names."""

    def add(build: _Build) -> _Build:
        _register[name] = EncoderSpec(name, weights, licence, dim, heads, blocks, pointed, build)
        return build

    return add


@cache
def encoder_specs() -> dict[str, EncoderSpec]:
    """All registered encoders, by name."""
    for module in pkgutil.iter_modules(__path__):
        if module.name not in MACHINERY:
            importlib.import_module(f"{__name__}.{module.name}")
    return dict(_register)


def encoder_spec(name: str) -> EncoderSpec:
    """The card of an encoder.

    Raises:
        Unavailable: No encoder has this name.
    """
    family = name.split(":")[0] + ":"
    found = encoder_specs().get(name) or (encoder_specs().get(family) if ":" in name else None)
    if found is None or name == family:
        known = ", ".join(n + "..." if n.endswith(":") else n for n in encoder_specs())
        raise Unavailable(f"There is no encoder {name!r}; foir knows {known}.")
    return found


def load(
    name: str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32", pretrained: bool = True
) -> Encoder:
    """Load an encoder.

    Args:
        name: A registered name, such as "dinov2-base-reg", "clip-large", "openclip:ViT-B-32/laion2b_s34b_b79k", "mini".
        revision: Commit, tag or branch of the weights' repository; the newest if left out.
        device: "cpu", "cuda", "mps", or "auto" for the fastest present or lent (`lent`).
        dtype: "float32", "bfloat16" or "float16".
        pretrained: False gives the true architecture with seeded random weights, for tests and measurements.

    Raises:
        Unavailable: Unknown name, device or dtype, or weights that are neither cached nor reachable.
    """
    found = encoder_spec(name)
    check_dtype(dtype)
    import torch

    built = found.build(found, name, revision, pretrained)
    if device == "auto" and has_zerogpu():
        from foir.encoders import zerogpu

        return zerogpu.with_remote_forward(built, lambda: found.build(found, name, revision, pretrained))
    return built.to(resolve_device(device), getattr(torch, dtype))


def has_zerogpu() -> bool:
    """Whether this machine lends its GPU call by call (see `foir.encoders.zerogpu`)."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that models cannot have.

    Raises:
        Unavailable: There is none of this name.
    """
    if dtype not in DTYPES:
        raise Unavailable(f"There is no dtype {dtype!r}; use one of {', '.join(DTYPES)}.")


def resolve_device(wanted: str) -> str:
    """The device of that name; "auto" is the fastest there is.

    Raises:
        Unavailable: This machine has none.
    """
    import torch

    own = torch.cuda.is_available() and not has_zerogpu()  # it says yes where a GPU is only lent
    here = {"cuda": own, "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device, there in here.items() if there)
    if not here.get(wanted.split(":")[0], False):
        raise Unavailable(f"There is no device {wanted!r} on this machine.")
    return wanted


__all__ = [
    "EncoderSpec",
    "encoder_spec",
    "encoder_specs",
    "check_dtype",
    "register_encoder",
    "has_zerogpu",
    "load",
    "resolve_device",
]
