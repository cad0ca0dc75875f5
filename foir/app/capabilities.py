"""What a collection offers: whose pictures, seen by which encoder, and how it is looked at unless somebody says so."""

from __future__ import annotations

import os
from dataclasses import dataclass

from foir import encoders
from foir.app.sessions import Settings
from foir.index import OBJECTS
from foir.index.protocol import IndexLike

HEADS = 5  # kept, where the encoder has more
FEW_HEADS = 6
# Of a thing pointed at, `mini` finds the very same one best by both together (README, `eval run mini-pointing`).
BOTH = "mini"
UNKNOWN_HEADS = 16  # of encoders whose checkpoint alone knows
WHOLE = 1000.0  # bytes of the next unit
NAMED = 2  # sources that are named


@dataclass(frozen=True)
class Capabilities:
    """What can be asked of a collection.

    Attributes:
        words: It can be searched for in words.
        cached: Its pictures can be shown through the heads that a query selected.
        objects: Small things can be looked for.
        heads: How many attention heads its encoder has.
        settings: What the controls say to begin with.
        about: How many pictures, how large, seen by what, under which licences, in a line.
    """

    has_text: bool
    has_head_cache: bool
    has_objects: bool
    heads: int
    settings: Settings
    about: str

    @classmethod
    def from_index(cls, index: IndexLike) -> Capabilities:
        """Read it off an index."""
        space = index.space("image")
        heads = space.z[0].shape[1] if space.z else encoders.encoder_spec(space.encoder).heads or UNKNOWN_HEADS
        # Six heads are too few to tell things apart by choosing among them alone (PHS paper, Table 1, DINOv2-small).
        both = heads <= FEW_HEADS or space.encoder == BOTH
        method = "attention_mask|phs" if both else "phs"
        return cls(
            words="text" in index.spaces,
            cached=bool(space.z),
            objects=OBJECTS in index.spaces,
            heads=heads,
            settings=Settings(method, min(HEADS, heads), outline=bool(os.environ.get("FOIR_SAM"))),
            about=_about(index),
        )


def _about(index: IndexLike) -> str:
    seen = index.space("image").encoder
    line = f"{len(index):,} pictures, {_size(index.bytes)}, seen by {seen} ({encoders.encoder_spec(seen).licence})."
    known = [(source, licence) for source, licence, _ in index.source_counts() if source or licence][:NAMED]
    named = "; ".join(
        f"{source or 'of unknown origin'} ({licence or 'no licence stated'})" for source, licence in known
    )
    return f"{line} Pictures: {named}." if known else line


def _size(count: float) -> str:
    for unit in ("kB", "MB"):
        count /= WHOLE
        if count < WHOLE:
            return f"{count:.0f} {unit}"
    return f"{count / WHOLE:.1f} GB"
