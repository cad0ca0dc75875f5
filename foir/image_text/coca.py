"""CoCa of open_clip: 256 learned queries pool the image in one cross-attention, which Q-Pert perturbs.

The first pooled vector is compared with texts; captions are generated from all of them. Pictures are prepared as in
open_clip's own evaluation: the shorter side is resized, and the middle square is cut out. `coca-squash` resizes both
sides to the square and sees all of the picture, distorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders import openclip
from foir.errors import Unavailable
from foir.image_text.base import ImageTextModel, TextFeatures
from foir.image_text.registry import register_model
from foir.patches import Crop
from foir.perturbation import beam_search, views
from foir.perturbation.query_perturbation import Perturbation
from foir.prompts import axis_span

MODEL, TAG = "coca_ViT-L-14", "mscoco_finetuned_laion2B-s13B-b90k"
MAX_WORDS = 30  # of a caption


class Coca(ImageTextModel):
    """An open_clip CoCa with one attentional pooler, and its tokenizer."""

    strength = 0.6  # the middle of the paper's grid; its choice is not published

    def __init__(self, model: Any, tokenizer: Any, revision: str, *, squash: bool = False) -> None:
        """Wrap a model; `squash` resizes whole pictures to the square, whatever their shape.

        Raises:
            Unavailable: It has no single attentional pooler, or pads pictures.
        """
        import open_clip
        from open_clip import transform

        self.visual = visual = model.visual
        if visual.attn_pool is None or visual.attn_pool_contrastive is not None or not visual.output_tokens:
            raise Unavailable("This model has no single attentional pooler, so it cannot be steered as CoCa.")
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        preprocessing = {"resize_mode": "shortest", **open_clip.get_model_preprocess_cfg(model)}
        if squash:
            preprocessing["resize_mode"] = "squash"
        if preprocessing["resize_mode"] == "longest":
            raise Unavailable("This model pads pictures to a square, and foir knows no patches of a border.")
        self.squash = preprocessing["resize_mode"] == "squash"
        self.preprocess = transform.image_transform_v2(transform.PreprocessCfg(**preprocessing), is_train=False)
        name = "coca-squash" if squash else "coca"
        super().__init__(name, revision, str(visual.conv1.weight.device), visual.grid_size)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `ImageTextModel`."""
        visual, weight = self.visual, self.visual.conv1.weight
        pixels = torch.stack([self.preprocess(image) for image in images]).to(weight.device, weight.dtype)
        return visual.transformer(visual._embeds(pixels))

    def crop(self, size: tuple[int, int]) -> Crop | None:
        """See `ImageTextModel`; to whole pixels, those on the border included."""
        if self.squash:
            return None
        cols, rows = (self._visible_span(length, min(size)) for length in size)
        return rows, cols

    def _visible_span(self, length: int, shorter: int) -> slice:
        """The pixels of a side that are left when the shorter side is resized to the input's and the middle cut out."""
        side = self.visual.image_size[0]
        resized = int(side * length / shorter)  # as torchvision rounds, here and below
        start = round((resized - side) / 2)
        return axis_span(start * length / resized, (start + side) * length / resized, length)

    @torch.inference_mode()
    def attention_keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """See `ImageTextModel`."""
        pooler = self.visual.attn_pool
        return (views.split_heads(_project(pooler.attn, pooler.ln_k(tokens), 1), pooler.attn.num_heads),)

    @torch.inference_mode()
    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`."""
        return self._on_tokens(perturbation).encode_image(tokens).float()[:, None]

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """See `ImageTextModel`."""
        embeddings = self.model.encode_text(self.tokenizer(list(texts)).to(self.device))
        limit = self.model.context_length
        truncated = [len(self.tokenizer.encode(text)) + 2 > limit for text in texts]
        return TextFeatures.from_embeddings(embeddings, truncated, limit)

    @torch.inference_mode()
    def caption(self, tokens: Tensor, perturbation: Perturbation | None = None) -> list[str]:
        """See `ImageTextModel`."""
        # open_clip's own generate needs a beam search that transformers 5 no longer has.
        model = self._on_tokens(perturbation)
        pooled, states = model._encode_image(tokens)
        return [self._generate(model, pooled[[i]], states[[i]]) for i in range(len(tokens))]

    def _generate(self, model: Any, pooled: Tensor, states: Tensor) -> str:
        start, end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id

        def step(ids: Tensor) -> Tensor:
            rows = [0] * len(ids)
            inputs = {"image_latent": pooled[rows], "image_embs": states[rows], "output_labels": False}
            logits: Tensor = model(None, ids.to(self.device), **inputs)["logits"][:, -1].float()
            logits[:, start] = -torch.inf
            return logits.log_softmax(-1)

        return str(self.tokenizer.decode(beam_search.beam_search(step, start, end, MAX_WORDS))).strip()

    def _on_tokens(self, perturbation: Perturbation | None) -> Any:
        """A view of the model that takes tokens instead of pixels, its pooler's queries perturbed if asked."""
        visual, modules = self.visual, {}
        if perturbation is not None:
            modules = {"attn_pool": _perturbed_pooler(visual.attn_pool, views.site_transform(perturbation, 0))}
        pool = partial(_pool_tokens, views.replace_modules(visual, modules))
        return views.replace_modules(self.model, {"visual": views.PrecomputedTokens(pool)})


@register_model("coca", standalone=True, weights=f"openclip:{MODEL}/{TAG}")
@register_model("coca-squash", standalone=True, weights=f"openclip:{MODEL}/{TAG}")
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load CoCa ViT-L/14, fine-tuned on COCO captions.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    import open_clip

    if revision is not None:
        raise Unavailable("open_clip names its weights by tag: leave the revision out.")
    model = openclip.create_model(MODEL, TAG if pretrained else None).to(device, getattr(torch, dtype))
    revision = TAG if pretrained else "random"
    return Coca(model, open_clip.get_tokenizer(MODEL), revision, squash=name == "coca-squash")


def _pool_tokens(visual: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The image encoder's output from the tokens behind its transformer."""
    pooled, states = visual._pool(tokens)
    return (pooled if visual.proj is None else pooled @ visual.proj), states


def _project(attention: Any, x: Tensor, index: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of a MultiheadAttention, whose weights are parameters instead of modules."""
    if attention._qkv_same_embed_dim:
        weight = attention.in_proj_weight.chunk(3)[index]
    else:
        weight = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)[index]
    return x @ weight.T + attention.in_proj_bias.chunk(3)[index]


def _perturbed_pooler(pooler: Any, transform: views.QueryTransform) -> Any:
    """The pooler with the same parameters and perturbed queries."""

    def forward(x: Tensor) -> Tensor:
        heads, x = pooler.attn.num_heads, pooler.ln_k(x)
        queries = pooler.ln_q(pooler.query).expand(len(x), -1, -1)
        q, k, v = (views.split_heads(_project(pooler.attn, u, index), heads) for index, u in enumerate((queries, x, x)))
        mixed: Tensor = F.scaled_dot_product_attention(transform(q), k, v)
        return pooler.attn.out_proj(mixed.transpose(1, 2).flatten(2))

    return views.replace_forward(pooler, forward)
