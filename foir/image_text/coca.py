"""CoCa of open_clip: 256 learned queries pool the picture in one cross-attention, where Q-Pert acts.

The first pooled vector is compared with texts, all of them are what captions are written from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from foir.encoders import openclip
from foir.encoders.clip import MEAN, STD
from foir.errors import Unavailable
from foir.image_text import ImageTextModel, TextFeatures, register_model, truncation_notes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foir.perturbation.query_perturbation import Perturbation
    from foir.perturbation.views import QueryTransform

MODEL, TAG = "coca_ViT-L-14", "mscoco_finetuned_laion2B-s13B-b90k"
STRENGTH = 0.6  # the middle of the paper's grid; its choice is not published
LONGEST = 30  # words of a caption


@register_model("coca", alone=True)
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load CoCa ViT-L/14, tuned on COCO's captions.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    import open_clip
    import torch

    if revision is not None:
        raise Unavailable("open_clip names its weights by tag: leave the revision out.")
    model = openclip.create_model(MODEL, TAG if pretrained else None).to(device, getattr(torch, dtype))
    return wrap(model, open_clip.get_tokenizer(MODEL), TAG if pretrained else "random")


def wrap(model: Any, tokenizer: Any, revision: str) -> ImageTextModel:
    """Open an open_clip CoCa with one attentional pooler, and its tokenizer.

    Raises:
        Unavailable: It pools in another way.
    """
    import torch
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    from foir.encoders.base import preprocess
    from foir.perturbation import beam_search
    from foir.perturbation.views import PrecomputedTokens, replace_modules, site_transform, split

    model.eval().requires_grad_(False)
    visual = model.visual
    if visual.attn_pool is None or visual.attn_pool_contrastive is not None or not visual.output_tokens:
        raise Unavailable("This model has no single attentional pooler, so it cannot be steered as CoCa.")
    pooler, weight = visual.attn_pool, visual.conv1.weight
    mean, std = getattr(visual, "image_mean", None) or MEAN, getattr(visual, "image_std", None) or STD

    @torch.inference_mode()
    def look(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([preprocess(picture, visual.image_size[0], mean, std) for picture in pictures])
        return visual.transformer(visual._embeds(pixels.to(weight.device, weight.dtype)))

    @torch.inference_mode()
    def keys(tokens: Tensor) -> tuple[Tensor, ...]:
        return (split(_projected(pooler, pooler.ln_k(tokens), 1), pooler.attn.num_heads),)

    def seen(pull: Perturbation | None) -> Any:
        """The whole model, given tokens instead of pixels."""
        parts = {} if pull is None else {"attn_pool": _pulled_pooler(pooler, site_transform(pull, 0))}
        return replace_modules(model, {"visual": PrecomputedTokens(partial(_behind, replace_modules(visual, parts)))})

    @torch.inference_mode()
    def vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
        return seen(pull).encode_image(tokens).float()[:, None]

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> TextFeatures:
        made = model.encode_text(tokenizer(list(texts)).to(weight.device))
        limit = model.context_length
        cut = [len(tokenizer.encode(text)) + 2 > limit for text in texts]
        return TextFeatures(F.normalize(made.float(), dim=-1).cpu().numpy(), truncation_notes(cut, limit))

    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id

    @torch.inference_mode()
    def caption(tokens: Tensor, pull: Perturbation | None = None) -> list[str]:
        # open_clip's own generate needs a beam search that transformers 5 no longer has.
        whole = seen(pull)
        pooled, shown = whole._encode_image(tokens)

        def written(i: int) -> str:
            def step(ids: Tensor) -> Tensor:
                count = len(ids)
                given = {"image_latent": pooled[[i] * count], "image_embs": shown[[i] * count], "output_labels": False}
                logits: Tensor = whole(None, ids.to(weight.device), **given)["logits"][:, -1].float()
                logits[:, start] = -torch.inf
                return logits.log_softmax(-1)

            return str(tokenizer.decode(beam_search.beam_search(step, start, end, LONGEST))).strip()

        return [written(i) for i in range(len(tokens))]

    return ImageTextModel(
        "coca", revision, str(weight.device), visual.grid_size, 1, look, vectors, words, caption=caption, keys=keys,
        strength=STRENGTH,
    )  # fmt: skip


def _behind(visual: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What the image tower makes of the tokens that leave its transformer."""
    pooled, rest = visual._pool(tokens)
    return (pooled if visual.proj is None else pooled @ visual.proj), rest


def _projected(pooler: Any, x: Tensor, part: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of the pooler's attention; its weights are three parameters, no modules."""
    attention = pooler.attn
    if attention._qkv_same_embed_dim:
        weight = attention.in_proj_weight.chunk(3)[part]
    else:
        weight = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)[part]
    return x @ weight.T + attention.in_proj_bias.chunk(3)[part]


def _pulled_pooler(pooler: Any, pull: QueryTransform) -> Any:
    """The pooler with the same parameters and pulled queries."""
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    from foir.perturbation.views import replace_modules, split

    def forward(x: Tensor) -> Tensor:
        heads, x = pooler.attn.num_heads, pooler.ln_k(x)
        queries = pooler.ln_q(pooler.query).expand(len(x), -1, -1)
        q, k, v = (split(_projected(pooler, u, part), heads) for part, u in enumerate((queries, x, x)))
        mixed: Tensor = F.scaled_dot_product_attention(pull(q), k, v)
        return pooler.attn.out_proj(mixed.transpose(1, 2).flatten(2))

    pulled = replace_modules(pooler, {})
    pulled.forward = forward
    return pulled
