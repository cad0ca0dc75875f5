"""Any open_clip image tower that is a plain CLS-pooled ViT: "openclip:MODEL/TAG", "openclip-projected:MODEL/TAG"."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from foir.encoders.clip import MEAN, STD
from foir.encoders.registry import EncoderSpec, register_encoder
from foir.errors import Unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder

MISFIT = "Error(s) in loading state_dict for"  # PyTorch's message, which names the tensors


@register_encoder("openclip:", weights="open_clip", licence="the checkpoint's own")
@register_encoder("openclip-projected:", weights="open_clip", licence="the checkpoint's own")
def build(spec: EncoderSpec, name: str, revision: str | None, pretrained: bool) -> Encoder:
    """Load an open_clip tower by model and pretrained tag."""
    import open_clip

    model_name, _, tag = name.partition(":")[2].partition("/")
    if model_name not in open_clip.list_models():
        raise Unavailable(f"open_clip has no model {model_name!r}.")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if pretrained and tag not in tags:
        raise Unavailable(f"open_clip has no weights {tag!r} for {model_name}; it has {', '.join(tags) or 'none'}.")
    if pretrained and revision is not None:
        raise Unavailable("open_clip names its weights by tag: leave out the revision.")
    model = create_model(model_name, tag if pretrained else None)
    return wrap(model.visual, name, tag if pretrained else "random", projected=spec.name == "openclip-projected:")


def create_model(model_name: str, tag: str | None) -> Any:
    """A whole open_clip model with the weights of a tag; None gives seeded random ones.

    Raises:
        Unavailable: The weights are neither cached nor reachable, or are those of another model.
    """
    import open_clip
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            return open_clip.create_model(model_name, pretrained=tag, device=torch.get_default_device())
        except (OSError, RuntimeError, ValueError) as error:
            if MISFIT in str(error):
                reason = textwrap.shorten(str(error).partition(MISFIT)[2], 200, placeholder=" ...")
                raise Unavailable(f"The weights {tag} do not fit {reason}: delete them to fetch them again.") from error
            raise Unavailable(
                f"The weights {tag} of {model_name} are not on this machine and cannot be fetched: connect to the "
                "network, or set HF_HOME to a cache that holds them."
            ) from error


def wrap(visual: Any, name: str, revision: str, *, projected: bool = False) -> Encoder:
    """Wrap an open_clip VisionTransformer of any width.

    Raises:
        Unavailable: The tower is no plain ViT that pools by its CLS token.
    """
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    from foir.encoders.base import Encoder
    from foir.encoders.block import BlockModules, Mlp, identity

    if (
        not isinstance(visual, VisionTransformer)
        or visual.pool_type != "tok"
        or visual.attn_pool is not None
        or not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    ):
        raise Unavailable(f"{name} does not pool by the CLS token of a plain ViT, so no head of it can be selected.")

    def block_modules(block: Any) -> BlockModules:
        attention = block.attn

        def qkv(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            packed = u @ attention.in_proj_weight.T + attention.in_proj_bias
            q, k, v = packed.chunk(3, dim=-1)
            return q, k, v

        return BlockModules(
            heads=attention.num_heads,
            norm1=block.ln_1,
            qkv=qkv,
            out=attention.out_proj,
            norm2=block.ln_2,
            ffn=Mlp((block.mlp.c_fc,), block.mlp.gelu, block.mlp.c_proj),
            scale1=block.ls_1,
            scale2=block.ls_2,
        )

    def project(cls: Tensor) -> Tensor:
        return cls @ visual.proj.to(cls.dtype)

    visual.eval().requires_grad_(False)
    if visual.image_size[0] != visual.image_size[1]:
        raise Unavailable(f"{name} takes images that are not square, which foir does not support.")
    return Encoder(
        name=name,
        revision=revision,
        embed=visual._embeds,
        layers=[block_modules(block) for block in visual.transformer.resblocks],
        norm=visual.ln_post,
        project=project if projected else identity,
        size=visual.image_size[0],
        grid=visual.grid_size,
        mean=tuple(getattr(visual, "image_mean", None) or MEAN),
        std=tuple(getattr(visual, "image_std", None) or STD),
        module=visual,
    )
