"""The text side of `mini`: MiniLM with a trained head, and captions by a small decoder.

Two attentions can be steered. The captioner's pooler is a cross-attention in the sense of Q-Pert. The search vector is
pooled by the CLS token of the last block; its query over all tokens is perturbed like one learned query. The latter is
our reading, the paper has no such model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foir.encoders.base import Encoder, Prefix
from foir.encoders.block import full_precision
from foir.image_text.base import ImageTextModel, TextFeatures, truncation_notes
from foir.image_text.clip import EncoderModel
from foir.image_text.registry import register_model
from foir.mini import captioner, text_encoder, weights
from foir.perturbation.query_perturbation import Perturbation
from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform

SEARCH, CAPTION = 0, 1  # the two attentions, in the order of `attention_keys`


class MiniModel(EncoderModel):
    """`mini` with its text head and captioner."""

    theta, strength = captioner.THETA, captioner.STRENGTH

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.text_head = weights.load_text_head()
        self.captioner = captioner.load().to(encoder.device)
        self.vocabulary = frozenset(self.captioner.words)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """See `ImageTextModel`."""
        states, lengths, truncated = text_encoder.token_states(texts)
        return TextFeatures(
            self.text_head(states, lengths).numpy(), truncation_notes(truncated, text_encoder.MAX_TOKENS)
        )

    @torch.inference_mode()
    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`."""
        block = self.encoder.open_last_block(tokens)
        if perturbation is not None:
            queries = full_precision(perturbation(SEARCH, block.queries[:, :, :1]))
            logits = (queries @ full_precision(block.keys).mT).squeeze(-2) * queries.shape[-1] ** -0.5
            block = replace(block, logits=logits)
        return self.encoder.finish(Prefix(tokens, block)).vectors[:, None]

    @torch.inference_mode()
    def attention_keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """See `ImageTextModel`."""
        pooler = self.captioner.pooler
        return self.encoder.open_last_block(tokens).keys, pooler.keys(pooler.norm_keys(tokens.float()))

    def caption(self, tokens: Tensor, perturbation: Perturbation | None = None) -> list[str]:
        """See `ImageTextModel`."""
        model = self.captioner
        if perturbation is not None:
            transform = site_transform(perturbation, CAPTION)
            queries = PerturbedQueries(model.pooler.q_proj, captioner.HEADS, transform)
            model = replace_modules(model, {"pooler.q_proj": queries})
        return model.generate(tokens.float())


@register_model("mini")
def build(encoder: Encoder) -> ImageTextModel:
    """Load the text side of `mini`.

    Raises:
        Unavailable: Its weights are missing or damaged.
    """
    return MiniModel(encoder)
