"""Words for `mini`: MiniLM with a trained head, and captions by a small decoder.

Two places can be steered. The captioner's pooler is a cross-attention as Q-Pert means it. The vector for search is
pooled by the CLS token of the last block, whose query over all tokens is perturbed as one learned query would be; that
is our reading, the paper has no such model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from foir.image_text import ImageTextModel, TextFeatures, register_model, truncation_notes
from foir.image_text.clip import load_text_tower

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.perturbation.query_perturbation import Perturbation

SEARCH, CAPTION = 0, 1  # the two places, in the order of `keys`


@register_model("mini")
def build(encoder: Encoder) -> ImageTextModel:
    """Load the text side of `mini`."""
    import torch

    from foir.encoders.base import Prefix
    from foir.mini import captioner, text_encoder, weights
    from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform

    head = weights.text_head()
    writer = captioner.load().to(encoder.device)

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> TextFeatures:
        states, lengths, cut = text_encoder.states(texts)
        return TextFeatures(head(states, lengths).numpy(), truncation_notes(cut, text_encoder.TOKENS))

    @torch.inference_mode()
    def vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
        block = encoder.open_last_block(tokens)
        if pull is not None:
            queries = pull(SEARCH, block.queries[:, :, :1])
            block = replace(block, logits=(queries @ block.keys.mT).squeeze(-2) * queries.shape[-1] ** -0.5)
        return encoder.finish(Prefix(tokens, block)).vectors[:, None]

    @torch.inference_mode()
    def keys(tokens: Tensor) -> tuple[Tensor, ...]:
        return encoder.open_last_block(tokens).keys, writer.pooler.keys(writer.pooler.norm_keys(tokens.float()))

    def say(tokens: Tensor, pull: Perturbation | None = None) -> list[str]:
        if pull is None:
            return writer.write(tokens.float())
        queries = PerturbedQueries(writer.pooler.q_proj, captioner.HEADS, site_transform(pull, CAPTION))
        return replace_modules(writer, {"pooler.q_proj": queries}).write(tokens.float())

    steer = {"theta": captioner.THETA, "strength": captioner.STRENGTH}
    return load_text_tower(encoder, encode_texts=words, image_vectors=vectors, keys=keys, caption=say, **steer)
