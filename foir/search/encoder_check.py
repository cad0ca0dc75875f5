"""The encoder of a space: loaded again, and checked to be the same."""

from __future__ import annotations

import shlex

import torch

from foir import encoders, hub
from foir.encoders.base import Encoder
from foir.errors import BadIndex
from foir.index import local_record
from foir.index.protocol import IndexLike
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


def check_encoder(encoder: Encoder, space: Space, index: IndexLike) -> None:
    """Check that an encoder is the one that made a space of an index, and gives the same features.

    Raises:
        BadIndex: It is another one, or its features changed; the message names the command that encodes the images
            again.
    """
    root = local_record.root_of(index.folder, index.manifest)
    words = ["foir", "index", "build", "FOLDER" if root is None else shlex.quote(str(root))]
    words += ["--out", shlex.quote(str(index.folder))] + ["--encoder", space.encoder] * (space.encoder != "mini")
    again = f"`{' '.join(words)}` encodes its images again"
    if encoder.name != space.encoder:
        raise BadIndex(f"The index was made by {space.encoder}, not by {encoder.name}.")
    if encoder.revision != space.revision:
        made, now = space.revision, encoder.revision
        raise BadIndex(f"The index was made by other weights of {encoder.name} ({made}, now {now}): {again}.")
    feature = encoder.reference_feature()
    if feature.shape != space.reference_feature.shape or not float(feature @ space.reference_feature) >= MIN_COSINE:
        known = f"{encoder.name} now gives other features than when the index was made"
        if encoder.dtype != torch.float32:
            raise BadIndex(f"{known}, in {str(encoder.dtype).removeprefix('torch.')}: set FOIR_DTYPE=float32.")
        raise BadIndex(f"{known}: {again}.")
