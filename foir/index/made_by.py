"""The encoder that made a space: loaded again, and checked to be the same."""

from __future__ import annotations

from foir import encoders
from foir.encoders.base import Encoder
from foir.errors import BadIndex
from foir.index.records import Space

SAME_ENCODER = 0.999  # cosine of the stored and the present probe: library updates that change features fall below


def encoder_of(space: Space, device: str, dtype: str) -> Encoder:
    """Load the encoder that a space names, at the revision that made it.

    Raises:
        Unavailable: Its weights are not at hand.
    """
    # Weights that ship with a package, or have a tag for a name, have no revision to ask the Hub for.
    pinned = None if space.encoder == "mini" or ":" in space.encoder else space.revision
    return encoders.load(space.encoder, revision=pinned, device=device, dtype=dtype)


def check_same(encoder: Encoder, space: Space) -> None:
    """Check that an encoder is the one that made a space, and still gives the features it gave then.

    Raises:
        BadIndex: It is not, or does not.
    """
    if (encoder.name, encoder.revision) != (space.encoder, space.revision):
        raise BadIndex(
            f"The index was made by {space.encoder} ({space.revision}), not by {encoder.name} ({encoder.revision})."
        )
    now = encoder.probe()
    if now.shape != space.probe.shape or not float(now @ space.probe) >= SAME_ENCODER:
        raise BadIndex(f"{encoder.name} now gives other features than when the index was made: rebuild the index.")
