"""DINOv2 with and without registers (facebook/dinov2-*), from transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foir.encoders.registry import EncoderSpec, register_encoder

if TYPE_CHECKING:
    from foir.encoders.base import Encoder

SIZES = {"small": (384, 6, 12), "base": (768, 12, 12), "large": (1024, 16, 24), "giant": (1536, 24, 40)}
OPTIONAL = ("embeddings.mask_token",)  # used in pre-training only


def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load a DINOv2."""
    import torch
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    from foir import hub
    from foir.pretrained import load_pretrained

    registers = name.endswith("-reg")
    model_class: Any = Dinov2WithRegistersModel if registers else Dinov2Model
    if pretrained:
        folder, commit = hub.download_weights(spec.weights, revision)
        return wrap(load_pretrained(model_class, folder, optional=OPTIONAL), name, commit)
    config_class: Any = Dinov2WithRegistersConfig if registers else Dinov2Config
    config = config_class(
        hidden_size=spec.dim,
        num_attention_heads=spec.heads,
        num_hidden_layers=spec.blocks,
        use_swiglu_ffn="giant" in name,
        patch_size=14,
        image_size=518,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap(model_class(config), name, "random")


for _size, (_dim, _heads, _blocks) in SIZES.items():
    for _suffix, _middle in (("-reg", "dinov2-with-registers"), ("", "dinov2")):
        register_encoder(
            f"dinov2-{_size}{_suffix}",
            weights=f"facebook/{_middle}-{_size}",
            licence="Apache-2.0",
            dim=_dim,
            heads=_heads,
            blocks=_blocks,
        )(build)


def wrap(model: Any, name: str, revision: str, *, size: int = 224) -> Encoder:
    """Wrap a transformers Dinov2Model or Dinov2WithRegistersModel of any width.

    Args:
        model: The model.
        name: Registry name.
        revision: Commit or digest of its weights.
        size: Side of the square that images are resized to; position embeddings are interpolated to it.
    """
    from foir.encoders.base import Encoder
    from foir.encoders.block import BlockModules, Mlp

    def mlp(ffn: Any) -> Mlp:
        if hasattr(ffn, "gate_proj"):
            return Mlp((ffn.gate_proj, ffn.up_proj), lambda gate, up: ffn.act_fn(gate) * up, ffn.down_proj)
        return Mlp((ffn.fc1,), ffn.activation_fn, ffn.fc2)

    def block_modules(layer: Any) -> BlockModules:
        a = layer.attention
        return BlockModules(
            heads=a.num_attention_heads,
            norm1=layer.norm1,
            qkv=lambda u: (a.q_proj(u), a.k_proj(u), a.v_proj(u)),
            out=a.o_proj,
            norm2=layer.norm2,
            ffn=mlp(layer.mlp),
            scale1=layer.layer_scale1,
            scale2=layer.layer_scale2,
        )

    model.eval().requires_grad_(False)
    grid = size // model.config.patch_size
    return Encoder(
        name=name,
        revision=revision,
        embed=model.embeddings,
        layers=[block_modules(layer) for layer in model.encoder.layer],
        norm=model.layernorm,
        size=size,
        grid=(grid, grid),
        registers=getattr(model.config, "num_register_tokens", 0),
        module=model,
    )
