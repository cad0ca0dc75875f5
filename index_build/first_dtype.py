"""The dtype of a build that leaves it open: what a killed build chose, so that its shards fit those of the next."""

from __future__ import annotations

import json
from pathlib import Path

from foir import encoders
from foir.index import writer

from .encoding import EncoderRecord
from .shards import PARTIAL

FILE = "dtype"  # of the unfinished shards' folder


def first_dtype(out: Path, encoder: str, device: str) -> str:
    """The dtype to compute in: that of a killed build with the same encoder, else the fastest one here.

    Args:
        out: The index.
        encoder: Registry name.
        device: Where it runs.

    Raises:
        Unavailable: See `foir.encoders.resolve_dtype`.
    """
    try:
        known, dtype = json.loads((out / PARTIAL / FILE).read_bytes())
    except (OSError, ValueError, TypeError):
        known, dtype = "", ""
    return encoders.resolve_dtype(dtype if known == encoder and dtype in encoders.DTYPES else "auto", device)


def keep_dtype(out: Path, record: EncoderRecord) -> None:
    """Remember the dtype of an index until it is complete. The index is locked."""
    (out / PARTIAL).mkdir(exist_ok=True)
    writer.atomic_write(out / PARTIAL / FILE, json.dumps([record.encoder, record.dtype]).encode())
