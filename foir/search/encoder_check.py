"""The encoder that made a space: loaded again, and checked to be the same."""

from __future__ import annotations

from foir import encoders, hub
from foir.encoders.base import Encoder
from foir.errors import BadIndex
from foir.index.records import Space

SAME_ENCODER = 0.999  # cosine of the stored and the present probe: library updates that change features fall below


def load_encoder(space: Space, device: str, dtype: str) -> Encoder:
    """Load the encoder that a space names, at the revision that made it.

    Raises:
        Unavailable: Its weights are not at hand.
        BadIndex: It names no commit.
    """
    # Weights that ship with a package, or have a tag for a name, have no revision to ask the Hub for.
    pinned = space.revision if hub.REPOSITORY.fullmatch(encoders.encoder_spec(space.encoder).weights) else None
    if pinned is not None and not hub.COMMIT.fullmatch(pinned):
        raise BadIndex(f"The index names {pinned!r} as the weights of {space.encoder}, which is no commit.")
    return encoders.load(space.encoder, revision=pinned, device=device, dtype=dtype)


def check_encoder(encoder: Encoder, space: Space) -> None:
    """Check that an encoder is the one that made a space, and still gives the features it gave then.

    Raises:
        BadIndex: It is not, or does not.
    """
    if (encoder.name, encoder.revision) != (space.encoder, space.revision):
        raise BadIndex(
            f"The index was made by {space.encoder} ({space.revision}), not by {encoder.name} ({encoder.revision})."
        )
    now = encoder.reference_feature()
    if now.shape != space.reference_feature.shape or not float(now @ space.reference_feature) >= SAME_ENCODER:
        raise BadIndex(f"{encoder.name} now gives other features than when the index was made: rebuild the index.")
