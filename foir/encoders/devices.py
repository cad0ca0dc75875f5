"""Devices and dtypes by name."""

from __future__ import annotations

import os

from foir.errors import Unavailable

DTYPES = ("float32", "bfloat16", "float16")


def has_zerogpu() -> bool:
    """Whether this is a Space that lends its GPU call by call (see `foir.encoders.zerogpu`)."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def check_dtype(dtype: str) -> None:
    """Refuse an unknown dtype.

    Raises:
        Unavailable: It is none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise Unavailable(f"There is no dtype {dtype!r}; use one of {', '.join(DTYPES)}.")


def resolve_device(name: str) -> str:
    """The device of that name; "auto" is the fastest one present.

    Raises:
        Unavailable: This machine does not have it.
    """
    import torch

    has_cuda = torch.cuda.is_available() and not has_zerogpu()  # torch says yes where a GPU is only lent
    present = {"cuda": has_cuda, "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, is_present in present.items() if is_present)
    if not present.get(name.split(":")[0], False):
        raise Unavailable(f"There is no device {name!r} on this machine.")
    return name
