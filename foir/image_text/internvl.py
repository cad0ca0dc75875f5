"""InternVL-G (14B, 224 px): 96 queries read the picture in every second layer of QLLaMA, one more in a pooling block.

The model's code comes with its weights and runs on this machine, so it is loaded only where FOIR_REMOTE_CODE is 1, at
one pinned commit. It has not been run here: what is below was proven on a look-alike with the same names and structure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foir.errors import Unavailable
from foir.image_text import ImageTextModel, TextFeatures, register_model, truncation_notes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foir.perturbation.query_perturbation import Perturbation
    from foir.perturbation.views import QueryTransform

REPOSITORY = "OpenGVLab/InternVL-14B-224px"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROMPT, TEXT = "summarize:", 80  # the texts' prefix in training, and how many tokens of them are read
STRENGTH = 0.6  # the middle of the paper's grid; its choice is not published


@register_model("internvl-g", alone=True)
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load InternVL-G.

    Raises:
        Unavailable: Its own code was not allowed, no commit was named, or the weights are not at hand.
    """
    if os.environ.get("FOIR_REMOTE_CODE") != "1" or revision is None or not pretrained:
        raise Unavailable(
            f"{REPOSITORY} brings code of its own: read it, then set FOIR_REMOTE_CODE=1 and name the commit you read."
        )
    import torch
    from transformers import AutoModel, AutoTokenizer

    from foir import hub

    folder, commit = hub.download_weights(REPOSITORY, revision, code=True)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=getattr(torch, dtype)).to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False, add_eos_token=True)
    tokenizer.pad_token_id = 0  # encode_text takes every other id for a word
    return wrap(model, tokenizer, commit)


def wrap(model: Any, tokenizer: Any, revision: str) -> ImageTextModel:
    """Open an InternVLModel and its tokenizer."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    from foir.encoders.base import preprocess
    from foir.perturbation.views import PerturbedQueries, PrecomputedTokens, replace_modules, site_transform, split

    model.eval().requires_grad_(False)
    vision = model.config.vision_config
    weight = model.vision_model.embeddings.patch_embedding.weight
    side = vision.image_size // vision.patch_size
    layers = {
        f"qllama.model.layers.{i}.cross_attn": layer.cross_attn
        for i, layer in enumerate(model.qllama.model.layers)
        if getattr(layer, "cross_attn", None) is not None
    }
    pool = model.clip_projector

    @torch.inference_mode()
    def look(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([preprocess(picture, vision.image_size, MEAN, STD) for picture in pictures])
        return model.vision_model(pixels.to(weight.device, weight.dtype))[0]

    @torch.inference_mode()
    def keys(tokens: Tensor) -> tuple[Tensor, ...]:
        own = [split(site.k_proj(site.norm2(tokens)), site.num_heads) for site in layers.values()]
        attention = pool.cross_attn
        return (*own, split(F.linear(pool.norm1_k(tokens), attention.k.weight, attention.k_bias), attention.num_heads))

    @torch.inference_mode()
    def vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
        parts: dict[str, Any] = {"vision_model": PrecomputedTokens(lambda given: (given,))}
        if pull is not None:
            for number, (path, site) in enumerate(layers.items()):
                parts[f"{path}.q_proj"] = PerturbedQueries(site.q_proj, site.num_heads, site_transform(pull, number))
            parts["clip_projector.cross_attn"] = _pulled_attention(pool.cross_attn, site_transform(pull, len(layers)))
        made = replace_modules(model, parts).encode_image(tokens, mode="InternVL-G")
        return F.normalize(made.float(), dim=-1)[:, None]

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> TextFeatures:
        said = [f"{PROMPT}{text}" for text in texts]
        read = tokenizer(said, truncation=True, max_length=TEXT, padding="max_length", return_tensors="pt")
        made = F.normalize(model.encode_text(read["input_ids"].to(weight.device)).float(), dim=-1)
        cut = [len(ids) > TEXT for ids in tokenizer(said)["input_ids"]]
        return TextFeatures(made.cpu().numpy(), truncation_notes(cut, TEXT))

    return ImageTextModel(
        "internvl-g", revision, str(weight.device), (side, side), 1, look, vectors, words, keys=keys, strength=STRENGTH
    )


def _pulled_attention(attention: Any, pull: QueryTransform) -> Any:
    """The pooling block's attention with pulled queries: it reads `q.weight` itself, so `q` cannot be replaced."""
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    from foir.perturbation.views import replace_modules, split

    def forward(x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = (
            (x, attention.q, attention.q_bias),
            (k, attention.k, attention.k_bias),
            (v, attention.v, attention.v_bias),
        )
        q, keys, values = (split(F.linear(u, linear.weight, bias), attention.num_heads) for u, linear, bias in given)
        mixed: Tensor = F.scaled_dot_product_attention(pull(q), keys, values, scale=attention.scale)
        return attention.proj(mixed.transpose(1, 2).flatten(2))

    pulled = replace_modules(attention, {})
    pulled.forward = forward
    return pulled
