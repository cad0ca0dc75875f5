"""Devices and dtypes by name."""

from __future__ import annotations

import os
import time
from functools import cache, partial
from timeit import repeat

from foir.errors import Unavailable

DTYPES = ("float32", "bfloat16", "float16")
WORTHWHILE = 1.2  # times faster than float32: less is not worth the rounding


def has_zerogpu() -> bool:
    """Whether this is a Space that lends its GPU call by call (see `foir.encoders.zerogpu`)."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def resolve_dtype(name: str, device: str) -> str:
    """The dtype of that name; "auto" is the fastest one that keeps features the same to three digits.

    That is bfloat16 on CPUs that compute in it faster, as a probe of some milliseconds finds, and on GPUs that have it;
    float16 on other GPUs of CUDA; else float32, as on a GPU that is only lent. The environment may name another one for
    "auto", `FOIR_DTYPE`.

    Args:
        name: One of `DTYPES`, or "auto".
        device: "cpu", "cuda", "mps" or "auto".

    Raises:
        Unavailable: There is no such dtype, or this machine has no such device.
    """
    name = os.environ.get("FOIR_DTYPE") or name if name == "auto" else name
    if name not in (*DTYPES, "auto"):
        raise Unavailable(f"There is no dtype {name!r} (--dtype, FOIR_DTYPE); use auto or one of {', '.join(DTYPES)}.")
    if name != "auto":
        return name
    if has_zerogpu():
        return "float32"
    kind = resolve_device(device).split(":")[0]
    if kind == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if kind == "cpu" and _bfloat16_is_faster() else "float32"


@cache
def _bfloat16_is_faster() -> bool:
    """Whether this CPU has instructions for bfloat16, and multiplies matrices of a transformer faster with them."""
    import torch

    flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every torch
    if not any(getattr(torch.cpu, flag, bool)() for flag in flags):
        return False
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        linear, tokens = torch.nn.Linear(384, 1536, dtype=dtype), torch.ones(1, 256, 384, dtype=dtype)
        with torch.inference_mode():  # the first one prepares
            seconds[dtype] = min(repeat(partial(linear, tokens), timer=time.perf_counter, number=1, repeat=6))
    return seconds[torch.float32] > WORTHWHILE * seconds[torch.bfloat16]


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
