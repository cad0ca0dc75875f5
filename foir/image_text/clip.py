"""OpenAI CLIP as a dual encoder: images and texts meet only in the final dot product, so nothing can be steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foir import encoders, hub
from foir.encoders.base import Encoder, Prefix
from foir.image_text.base import ImageTextModel, TextFeatures, tokenize
from foir.image_text.registry import register_model
from foir.perturbation.query_perturbation import Perturbation
from foir.pretrained import load_pretrained

IMAGE_SIDE = ("vision_model.*", "visual_projection.weight", "logit_scale")  # of the same checkpoint


class EncoderModel(ImageTextModel):
    """A model whose image side is an encoder. Its tokens are those before the encoder's last block."""

    encoder: Encoder

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.name, encoder.revision, encoder.device, encoder.grid, encoder.first_patch)
        self.encoder = encoder

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `ImageTextModel`."""
        return self.encoder.prefix(self.encoder.pixels(images)).block.tokens

    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`; without a cross-attention there is nothing to perturb."""
        return self.encoder.finish(Prefix(tokens, self.encoder.open_last_block(tokens))).vectors[:, None]


class Clip(EncoderModel):
    """An image encoder with a transformers CLIPTextModelWithProjection and its tokenizer."""

    def __init__(self, encoder: Encoder, model: Any, tokenizer: Any) -> None:
        super().__init__(encoder)
        self.text_model = model.eval().requires_grad_(False).to(encoder.device)
        self.tokenizer = tokenizer

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """See `ImageTextModel`."""
        limit = self.text_model.config.max_position_embeddings
        batch, truncated = tokenize(self.tokenizer, texts, limit)
        embeddings = self.text_model(**batch.to(self.device)).text_embeds
        return TextFeatures.from_embeddings(embeddings, truncated, limit)


@register_model("clip-base-projected")
@register_model("clip-large-projected")
def build(encoder: Encoder) -> ImageTextModel:
    """Load CLIP's text encoder from the same commit as the image encoder.

    Raises:
        Unavailable: The weights are neither cached nor reachable, or the encoder has random weights.
    """
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    folder, _ = hub.download_weights(encoders.encoder_spec(encoder.name).weights, encoder.revision)
    model = load_pretrained(CLIPTextModelWithProjection, folder, ignored=IMAGE_SIDE)
    return Clip(encoder, model, CLIPTokenizer.from_pretrained(folder))
