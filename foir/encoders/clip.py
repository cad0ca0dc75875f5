"""OpenAI CLIP image towers of transformers: ln_post(CLS), or after the projection ("-projected")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foir.encoders.registry import EncoderSpec, register_encoder

if TYPE_CHECKING:
    from foir.encoders.base import Encoder
    from foir.encoders.block import BlockModules

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXT_SIDE = ("text_model.*", "text_projection.weight", "logit_scale")  # of the same checkpoint
# name: repository, width, heads, blocks, patch, width of the joint space
TOWERS = {
    "clip-base": ("openai/clip-vit-base-patch16", 768, 12, 12, 16, 512),
    "clip-large": ("openai/clip-vit-large-patch14", 1024, 16, 24, 14, 768),
}


def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load a CLIP image tower."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from foir import hub
    from foir.pretrained import load_pretrained

    tower = name.removesuffix("-projected")
    if pretrained:
        folder, commit = hub.download_weights(spec.weights, revision)
        model = load_pretrained(CLIPVisionModelWithProjection, folder, ignored=TEXT_SIDE)
        return wrap(model, name, commit, projected=name != tower)
    _, dim, heads, blocks, patch, joint = TOWERS[tower]
    config = CLIPVisionConfig(
        hidden_size=dim,
        intermediate_size=4 * dim,
        num_attention_heads=heads,
        num_hidden_layers=blocks,
        patch_size=patch,
        projection_dim=joint,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap(CLIPVisionModelWithProjection(config), name, "random", projected=name != tower)


for _name, (_repo, _dim, _heads, _blocks, *_) in TOWERS.items():
    for _suffix in ("", "-projected"):
        register_encoder(_name + _suffix, weights=_repo, licence="MIT", dim=_dim, heads=_heads, blocks=_blocks)(build)


def wrap(model: Any, name: str, revision: str, *, projected: bool = False) -> Encoder:
    """Wrap a transformers CLIPVisionModelWithProjection of any width.

    Args:
        model: The model.
        name: Registry name.
        revision: Commit or digest of its weights.
        projected: Use the feature after the projection to the joint space with text.
    """
    from foir.encoders.base import Encoder
    from foir.encoders.block import identity

    model.eval().requires_grad_(False)
    vision = model.vision_model
    grid = model.config.image_size // model.config.patch_size
    return Encoder(
        name=name,
        revision=revision,
        embed=lambda pixels: vision.pre_layrnorm(vision.embeddings(pixels)),
        layers=[block_modules(layer) for layer in vision.encoder.layers],
        norm=vision.post_layernorm,
        project=model.visual_projection if projected else identity,
        size=model.config.image_size,
        grid=(grid, grid),
        mean=MEAN,
        std=STD,
        module=model,
    )


def block_modules(layer: Any) -> BlockModules:
    """The modules of a CLIP or SigLIP block of transformers."""
    from foir.encoders.block import BlockModules, Mlp

    a = layer.self_attn
    return BlockModules(
        heads=a.num_heads,
        norm1=layer.layer_norm1,
        qkv=lambda u: (a.q_proj(u), a.k_proj(u), a.v_proj(u)),
        out=a.out_proj,
        norm2=layer.layer_norm2,
        ffn=Mlp((layer.mlp.fc1,), layer.mlp.activation_fn, layer.mlp.fc2),
    )
