"""The dtype of a build that leaves it open: what a killed build chose, so that its shards fit those of the next."""

from __future__ import annotations

from pathlib import Path

from foir import encoders
from foir.index import writer

from .shards import PARTIAL

FILE = "dtype"  # of the unfinished shards' folder


def first_dtype(out: Path, dtype: str, device: str) -> str:
    """The dtype to compute in.

    Args:
        out: The index.
        dtype: As the plan says; "auto" leaves it open.
        device: Where the encoders run.

    Raises:
        Unavailable: See `foir.encoders.resolve_dtype`.
    """
    if dtype == "auto":
        try:
            known = (out / PARTIAL / FILE).read_text(errors="replace")
        except OSError:
            known = ""
        dtype = known if known in encoders.DTYPES else dtype
    return encoders.resolve_dtype(dtype, device)


def keep_dtype(out: Path, dtype: str) -> None:
    """Remember the dtype of an index until it is complete. The index is locked."""
    (out / PARTIAL).mkdir(exist_ok=True)
    writer.atomic_write(out / PARTIAL / FILE, dtype.encode())
