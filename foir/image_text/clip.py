"""OpenAI CLIP as a dual encoder: pictures and words meet only in the last dot product, so nothing can be steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foir import encoders
from foir.image_text import ImageTextModel, TextFeatures, register_model, truncation_notes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foir.encoders.base import Encoder


@register_model("clip-base-projected")
@register_model("clip-large-projected")
def build(encoder: Encoder) -> ImageTextModel:
    """Load CLIP's text tower from the same commit as the image tower.

    Raises:
        Unavailable: The weights are neither cached nor reachable, or the encoder has random weights.
    """
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    from foir import hub

    folder, _ = hub.download_weights(encoders.encoder_spec(encoder.name).weights, encoder.revision)
    model = CLIPTextModelWithProjection.from_pretrained(folder)
    return wrap(encoder, model, CLIPTokenizer.from_pretrained(folder))


def wrap(encoder: Encoder, model: Any, tokenizer: Any) -> ImageTextModel:
    """Join an image tower with a transformers CLIPTextModelWithProjection and its tokenizer."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    model.eval().requires_grad_(False).to(encoder.device)
    limit = model.config.max_position_embeddings

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> TextFeatures:
        whole = tokenizer(list(texts))["input_ids"]
        read = tokenizer(list(texts), truncation=True, max_length=limit, padding=True, return_tensors="pt")
        made = model(**read.to(encoder.device)).text_embeds
        notes = truncation_notes([len(ids) > limit for ids in whole], limit)
        return TextFeatures(F.normalize(made.float(), dim=-1).cpu().numpy(), notes)

    return load_text_tower(encoder, encode_texts=words)


def load_text_tower(encoder: Encoder, **parts: Any) -> ImageTextModel:
    """A model whose image side is an encoder: it looks as the encoder does, up to the last block."""
    from foir.encoders.base import Prefix

    def look(pictures: Sequence[Image.Image]) -> Tensor:
        return encoder.prefix(encoder.pixels(pictures)).block.tokens

    def vectors(tokens: Tensor, pull: object = None) -> Tensor:
        return encoder.finish(Prefix(tokens, encoder.open_last_block(tokens))).vectors[:, None]

    facts: dict[str, Any] = {"image_vectors": vectors, "encoder": encoder, **parts}
    return ImageTextModel(
        encoder.name, encoder.revision, encoder.device, encoder.grid, encoder.first_patch, look, **facts
    )
