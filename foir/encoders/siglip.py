"""SigLIP's image tower (google/siglip-*): no CLS token, an attention head pools the patches. For MaO only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foir.encoders.registry import EncoderSpec, register_encoder

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

TEXT_SIDE = ("text_model.*", "logit_scale", "logit_bias")  # of the same checkpoint


@register_encoder(
    "siglip-base", weights="google/siglip-base-patch16-384", licence="Apache-2.0", dim=768, heads=12, blocks=12,
    promptable=False,
)  # fmt: skip
def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load the tower."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    from foir import hub
    from foir.pretrained import load_pretrained

    if pretrained:
        folder, commit = hub.download_weights(spec.weights, revision)
        return wrap(load_pretrained(SiglipVisionModel, folder, ignored=TEXT_SIDE), name, commit)
    config = SiglipVisionConfig(
        hidden_size=spec.dim,
        intermediate_size=4 * spec.dim,
        num_attention_heads=spec.heads,
        num_hidden_layers=spec.blocks,
        image_size=384,
        patch_size=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap(SiglipVisionModel(config), name, "random")


def wrap(model: Any, name: str, revision: str) -> Encoder:
    """Wrap a transformers SiglipVisionModel of any width."""
    from foir.encoders.clip import block_modules
    from foir.encoders.patch_pooled import PatchPooledEncoder

    model.eval().requires_grad_(False)
    grid = model.config.image_size // model.config.patch_size
    return PatchPooledEncoder(
        name=name,
        revision=revision,
        embed=model.embeddings,
        layers=[block_modules(layer) for layer in model.encoder.layers],
        norm=model.post_layernorm,
        size=model.config.image_size,
        grid=(grid, grid),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        module=model,
        pool=model.head,
    )
