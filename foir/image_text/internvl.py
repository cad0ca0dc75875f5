"""InternVL-G (14B, 224 px): 96 queries attend to the image in every second layer of QLLaMA, one more when pooling.

The model's code comes with its weights and runs on this machine, so it is loaded only with FOIR_REMOTE_CODE=1 and at a
pinned commit.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir import hub
from foir.errors import Unavailable
from foir.image_text.base import ImageTextModel, TextFeatures, preprocess_batch, tokenize
from foir.image_text.registry import register_model
from foir.perturbation import views
from foir.perturbation.query_perturbation import Perturbation
from foir.pretrained import copy_tensors, read_tensors

REPOSITORY = "OpenGVLab/InternVL-14B-224px"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FREQUENCIES = "rotary_emb.inv_freq"  # ends the names of tensors that are computed, and saved by some versions
PACKAGES = "peft einops timm sentencepiece protobuf"  # what the model's code and vocabulary import
PROMPT, MAX_TOKENS = "summarize:", 80  # prefix of every text in training, and length of a text


class InternVL(ImageTextModel):
    """An InternVLModel and its tokenizer."""

    strength = 0.6  # the middle of the paper's grid; its choice is not published

    def __init__(self, model: Any, tokenizer: Any, revision: str) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.weight, self.size = (
            model.vision_model.embeddings.patch_embedding.weight,
            model.config.vision_config.image_size,
        )
        side = self.size // model.config.vision_config.patch_size
        super().__init__("internvl-g", revision, str(self.weight.device), (side, side))
        self.layers = {
            f"qllama.model.layers.{i}.cross_attn": layer.cross_attn
            for i, layer in enumerate(model.qllama.model.layers)
            if getattr(layer, "cross_attn", None) is not None
        }

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `ImageTextModel`."""
        pixels = preprocess_batch(images, self.size, MEAN, STD, self.weight)
        return self.model.vision_model(pixel_values=pixels, output_hidden_states=False, return_dict=True)[0]

    @torch.inference_mode()
    def attention_keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """See `ImageTextModel`."""
        layers = [views.split_heads(site.k_proj(site.norm2(tokens)), site.num_heads) for site in self.layers.values()]
        pool = self.model.clip_projector
        attention = pool.cross_attn
        keys = F.linear(pool.norm1_k(tokens), attention.k.weight, attention.k_bias)
        return (*layers, views.split_heads(keys, attention.num_heads))

    @torch.inference_mode()
    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`."""
        modules: dict[str, Any] = {"vision_model": views.PrecomputedTokens(lambda tokens: (tokens,))}
        if perturbation is not None:
            for number, (path, site) in enumerate(self.layers.items()):
                transform = views.site_transform(perturbation, number)
                modules[f"{path}.q_proj"] = views.PerturbedQueries(site.q_proj, site.num_heads, transform)
            modules["clip_projector.cross_attn"] = _perturbed_attention(
                self.model.clip_projector.cross_attn, views.site_transform(perturbation, len(self.layers))
            )
        embeddings = views.replace_modules(self.model, modules).encode_image(tokens, mode="InternVL-G")
        return F.normalize(embeddings.float(), dim=-1)[:, None]

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """See `ImageTextModel`."""
        prompted = [f"{PROMPT}{text}" for text in texts]
        batch, truncated = tokenize(self.tokenizer, prompted, MAX_TOKENS, padding="max_length")
        embeddings = self.model.encode_text(batch["input_ids"].to(self.device))
        return TextFeatures.from_embeddings(embeddings, truncated, MAX_TOKENS)


@register_model("internvl-g", standalone=True, weights=REPOSITORY, parameters=14_000_000_000, brings_code=True)
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load InternVL-G.

    Raises:
        Unavailable: Remote code was not allowed, no commit was named, or the weights cannot be loaded.
    """
    if os.environ.get("FOIR_REMOTE_CODE") != "1" or revision is None or not pretrained:
        raise Unavailable(
            f"{REPOSITORY} brings code of its own: read it, then set FOIR_REMOTE_CODE=1 and name the commit you read "
            "as the revision."
        )
    folder, commit = hub.download_weights(REPOSITORY, revision, code=True)
    try:
        model, tokenizer = _load_model(folder, getattr(torch, dtype)), _load_tokenizer(folder)
    except Unavailable:
        raise
    except Exception as error:  # foreign code raises what it likes
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise Unavailable(
            f"The code of {REPOSITORY} at {commit} does not run here ({reason}): install what it needs (pip install "
            f"{PACKAGES}), or name another commit."
        ) from error
    return InternVL(model.to(device), tokenizer, commit)


def _load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The model with its weights, on the CPU.

    `from_pretrained` fails, because the model's code never calls `post_init`. With that call it would return garbage:
    it builds a model without memory, and the tables of rotary positions, which no file holds, stay uninitialised.
    """
    from transformers import AutoConfig, AutoModel

    auto_model: Any = AutoModel
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = auto_model.from_config(config, trust_remote_code=True, dtype=dtype)
    failure = f"The weights in {folder} do not fit {type(model).__name__}"
    remedy = "delete the folder to fetch them again"
    copy_tensors(_saved(model.state_dict()), _saved(read_tensors(folder)), failure, remedy)
    return model


def _saved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(FREQUENCIES)}


def _load_tokenizer(folder: Path) -> Any:
    """The tokenizer of the released evaluation; transformers 5 would leave out the start and pad on the left.

    `encode_text` takes ids above 0 for words, and reads the vector at their number: the padding is 0, behind them.
    """
    from transformers import AutoTokenizer

    ends = {"add_bos_token": True, "add_eos_token": True}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False, **ends)
    tokenizer.pad_token_id, tokenizer.padding_side = 0, "right"
    return tokenizer


def _perturbed_attention(attention: Any, transform: views.QueryTransform) -> Any:
    """The pooling attention with perturbed queries: it uses `q.weight` directly, so `q` cannot be replaced."""

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        inputs = (
            (q, attention.q, attention.q_bias),
            (k, attention.k, attention.k_bias),
            (v, attention.v, attention.v_bias),
        )
        q, k, v = (
            views.split_heads(F.linear(x, linear.weight, bias), attention.num_heads) for x, linear, bias in inputs
        )
        mixed: Tensor = F.scaled_dot_product_attention(transform(q), k, v, scale=attention.scale)
        return attention.proj(mixed.transpose(1, 2).flatten(2))

    return views.replace_forward(attention, forward)
