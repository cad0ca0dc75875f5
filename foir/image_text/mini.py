"""Words for `mini`: MiniLM with a trained head, and captions by a small decoder.

Two places can be steered. The captioner's pooler is a cross-attention as Q-Pert means it. The vector for search is
pooled by the CLS token of the last block, whose query over all tokens is perturbed as one learned query would be; that
is our reading, the paper has no such model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from foir.image_text import Crossmodal, Words, crossmodal, cut_notes
from foir.image_text.clip import beside

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.perturbation.query_perturbation import Perturbation

SEARCH, CAPTION = 0, 1  # the two places, in the order of `keys`


@crossmodal("mini")
def build(encoder: Encoder) -> Crossmodal:
    """Load the text side of `mini`."""
    import torch

    from foir.encoders.base import Prefix
    from foir.mini import captioner, text_encoder, weights
    from foir.perturbation.views import PulledQueries, at, view

    head = weights.text_head()
    writer = captioner.load().to(encoder.device)

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> Words:
        states, lengths, cut = text_encoder.states(texts)
        return Words(head(states, lengths).numpy(), cut_notes(cut, text_encoder.TOKENS))

    @torch.inference_mode()
    def vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
        block = encoder.open(tokens)
        if pull is not None:
            queries = pull(SEARCH, block.queries[:, :, :1])
            block = replace(block, logits=(queries @ block.keys.mT).squeeze(-2) * queries.shape[-1] ** -0.5)
        return encoder.finish(Prefix(tokens, block)).vectors[:, None]

    @torch.inference_mode()
    def keys(tokens: Tensor) -> tuple[Tensor, ...]:
        return encoder.open(tokens).keys, writer.pooler.keys(writer.pooler.norm_keys(tokens.float()))

    def say(tokens: Tensor, pull: Perturbation | None = None) -> list[str]:
        if pull is None:
            return writer.write(tokens.float())
        queries = PulledQueries(writer.pooler.q_proj, captioner.HEADS, at(pull, CAPTION))
        return view(writer, {"pooler.q_proj": queries}).write(tokens.float())

    steer = {"theta": captioner.THETA, "strength": captioner.STRENGTH}
    return beside(encoder, words=words, vectors=vectors, keys=keys, caption=say, **steer)
