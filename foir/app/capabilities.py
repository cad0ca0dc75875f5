"""Capabilities of a collection: which queries its index supports, and which settings suit its encoder."""

from __future__ import annotations

import os
from dataclasses import dataclass

from foir import encoders
from foir.app.sessions import Settings
from foir.index import Index
from foir.index.protocol import IndexLike
from foir.index.records import Facets

KEPT_HEADS = 5  # by default, where the encoder has more
UNKNOWN_HEADS = 16  # for encoders whose checkpoint alone defines the number
UNIT = 1000.0
MAX_SOURCES = 2


@dataclass(frozen=True)
class Capabilities:
    """What a collection supports.

    Attributes:
        has_text: Text queries.
        has_head_cache: The query-db mode.
        has_regions: Region vectors, which a marked object is compared with.
        heads: Number of attention heads of its encoder.
        follows_folder: It can be kept up to date with a folder of this machine.
        facets: What its images can be narrowed to.
        settings: The initial settings.
        about: Number of images, size, encoder, sources and licences, in one line.
    """

    has_text: bool
    has_head_cache: bool
    has_regions: bool
    heads: int
    follows_folder: bool
    facets: Facets
    settings: Settings
    about: str

    @classmethod
    def from_index(cls, index: IndexLike) -> Capabilities:
        """Read the capabilities from an index."""
        space = index.space("image")
        heads = space.z[0].shape[1] if space.z else encoders.encoder_spec(space.encoder).heads or UNKNOWN_HEADS
        return cls(
            has_text="text" in index.spaces,
            has_head_cache=bool(space.z),
            has_regions=index.regions is not None,
            heads=heads,
            follows_folder=isinstance(index, Index) and index.root is not None,
            facets=index.facets(),
            settings=Settings(heads=min(KEPT_HEADS, heads), outline=bool(os.environ.get("FOIR_SAM"))),
            about=_about(index),
        )


def _about(index: IndexLike) -> str:
    encoder = index.space("image").encoder
    licence = encoders.encoder_spec(encoder).licence
    line = f"{len(index):,} images, {_format_bytes(index.bytes)}, encoded by {encoder} ({licence})."
    known = [(source, licence) for source, licence, _ in index.source_counts() if source or licence][:MAX_SOURCES]
    sources = "; ".join(f"{source or 'unknown source'} ({licence or 'no licence stated'})" for source, licence in known)
    terms = encoders.weight_terms(each.encoder for each in index.spaces.values())
    return " ".join([line, *([f"Source: {sources}."] if known else []), *terms])


def _format_bytes(count: float) -> str:
    for unit in ("kB", "MB"):
        count /= UNIT
        if count < UNIT:
            return f"{count:.0f} {unit}"
    return f"{count / UNIT:.1f} GB"
