"""An encoder without a CLS token: a head pools the patches after the last block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foir.encoders.base import Encoder, Features, Prefix
from foir.encoders.block import Map, identity
from foir.encoders.intervention import PLAIN, Intervention
from foir.errors import Unavailable


@dataclass(frozen=True, eq=False)
class PatchPooledEncoder(Encoder):
    """Pools patch tokens; only methods that edit pixels work with it.

    Attributes:
        pool: From normalised patches [B, T, d] to features [B, dim].
    """

    pool: Map = identity

    @property
    def first_patch(self) -> int:
        """Every token is a patch."""
        return 0

    def raw_feature(self, tokens: Tensor) -> Tensor:
        """See `Encoder.raw_feature`."""
        return self.pool(self.normed(tokens))

    @property
    def pooling(self) -> tuple[Map, ...]:
        """See `Encoder.pooling`."""
        return self.norm, self.pool

    @torch.inference_mode()
    def finish(self, prefix: Prefix, interventions: Sequence[Intervention] = (PLAIN,)) -> Features:
        """See `Encoder.finish`; `z` and `residual` are empty.

        Raises:
            Unavailable: A method needs heads or logits of the CLS token.
        """
        if any(step.logits or step.heads is not None for step in interventions):
            raise Unavailable(f"{self.name} has no CLS token to steer: use cbir, mask or crop with it.")
        vectors = self.pooled_feature(self.layers[-1](prefix.block.tokens))
        if len(interventions) > len(vectors):
            vectors = vectors.expand(len(interventions), -1)
        rows = len(vectors)
        empty = vectors.new_zeros(rows, 0)
        return Features(vectors, vectors.new_zeros(rows, 0, 0), (None,) * rows, empty[..., None], empty)
