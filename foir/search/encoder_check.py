"""The encoder of a space: loaded again, and checked to be the same."""

from __future__ import annotations

import torch

from foir import encoders, hub
from foir.encoders.base import Encoder
from foir.errors import BadIndex
from foir.index.records import Space

MIN_COSINE = 0.999  # of the stored and the current reference feature; a library that changes features falls below


def load_encoder(space: Space, device: str, dtype: str) -> Encoder:
    """Load the encoder that a space names, at the revision that made it.

    Raises:
        Unavailable: Its weights are neither cached nor reachable.
        BadIndex: The space names weights on the Hub, but no commit.
    """
    # Only weights in a Hub repository have a revision to ask for.
    pinned = space.revision if hub.REPOSITORY.fullmatch(encoders.encoder_spec(space.encoder).weights) else None
    if pinned is not None and not hub.COMMIT.fullmatch(pinned):
        raise BadIndex(f"The index names {pinned!r} as the weights of {space.encoder}, which is no commit.")
    return encoders.load(space.encoder, revision=pinned, device=device, dtype=dtype)


def check_encoder(encoder: Encoder, space: Space) -> None:
    """Check that an encoder is the one that made a space, and gives the same features.

    Raises:
        BadIndex: It is another one, or its features changed.
    """
    if (encoder.name, encoder.revision) != (space.encoder, space.revision):
        raise BadIndex(
            f"The index was made by {space.encoder} ({space.revision}), not by {encoder.name} ({encoder.revision})."
        )
    feature = encoder.reference_feature()
    if feature.shape != space.reference_feature.shape or not float(feature @ space.reference_feature) >= MIN_COSINE:
        known = f"{encoder.name} now gives other features than when the index was made"
        if encoder.dtype != torch.float32:
            raise BadIndex(f"{known}, in {str(encoder.dtype).removeprefix('torch.')}: set FOIR_DTYPE=float32.")
        raise BadIndex(f"{known}: rebuild the index.")
