"""The dtype of a build that leaves it open: what a killed build chose, so that its shards fit those of the next."""

from __future__ import annotations

from pathlib import Path

from foir import encoders

from .encoding import EncoderRecord
from .notes import read_note, write_note

FILE = "dtype"  # the note's name


def first_dtype(out: Path, encoder: str, device: str) -> str:
    """The dtype to compute in: that of a killed build with the same encoder, else the fastest one here.

    Args:
        out: The index.
        encoder: Registry name.
        device: Where it runs.

    Raises:
        Unavailable: See `foir.encoders.resolve_dtype`.
    """
    known = read_note(out, FILE, encoder)
    return encoders.resolve_dtype(known if known in encoders.DTYPES else "auto", device)


def keep_dtype(out: Path, record: EncoderRecord) -> None:
    """Remember the dtype of an index until it is complete. The index is locked."""
    write_note(out, FILE, record.encoder, record.dtype)
