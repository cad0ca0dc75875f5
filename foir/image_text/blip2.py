"""BLIP-2: 32 learned queries attend to the image in the six cross-attentions of the Q-Former, which Q-Pert perturbs.

`blip2` scores images against texts (contrastive, and a matching head for the best); `blip2-captions` passes the queries
to a language model. They are two checkpoints with two image encoders. `blip2-raw` is `blip2` without its caption
processor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir import hub
from foir.encoders.clip import MEAN, STD
from foir.errors import Unavailable
from foir.image_text.base import ImageTextModel, TextFeatures, preprocess_batch, tokenize
from foir.image_text.registry import register_model
from foir.perturbation.query_perturbation import Perturbation
from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform, split_heads
from foir.pretrained import load_pretrained

RETRIEVAL_REPO, CAPTION_REPO = "Salesforce/blip2-itm-vit-g-coco", "Salesforce/blip2-opt-2.7b-coco"
MAX_TOKENS = 35  # of a text, as in the paper
MAX_WORDS = 50  # of a text, as in LAVIS
MAX_NEW_TOKENS, BEAMS = 30, 5  # of a caption


class _Blip2(ImageTextModel):
    """Both checkpoints: an image encoder, and a Q-Former whose queries can be perturbed."""

    theta, strength = 0.99, 8.0  # as in the released code's results

    def __init__(self, name: str, revision: str, model: Any, tokenizer: Any) -> None:
        vision = model.config.vision_config
        side = vision.image_size // vision.patch_size
        super().__init__(name, revision, str(model.device), (side, side))
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.attentions: dict[str, Any] = {
            f"encoder.layer.{i}.crossattention.attention": layer.crossattention.attention
            for i, layer in enumerate(model.qformer.encoder.layer)
            if layer.has_cross_attention
        }

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `ImageTextModel`."""
        weight = self.model.vision_model.embeddings.patch_embedding.weight
        pixels = preprocess_batch(images, self.model.config.vision_config.image_size, MEAN, STD, weight)
        return self.model.vision_model(pixels).last_hidden_state

    @torch.inference_mode()
    def attention_keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """See `ImageTextModel`."""
        sites = self.attentions.values()
        return tuple(split_heads(_in_dtype_of(site.key, tokens), site.num_attention_heads) for site in sites)

    def learned_queries(self, tokens: Tensor) -> Tensor:
        """The learned queries, for each row of tokens."""
        return self.model.query_tokens.expand(len(tokens), -1, -1)

    def qformer(self, tokens: Tensor, perturbation: Perturbation | None, **inputs: Any) -> Tensor:
        """Last hidden states of the Q-Former, its cross-attentions perturbed if asked."""
        weight: Tensor = next(iter(self.attentions.values())).key.weight
        qformer: Callable[..., Any] = self.model.qformer
        if perturbation is not None:
            modules: dict[str, nn.Module] = {
                f"{path}.query": PerturbedQueries(
                    site.query, site.num_attention_heads, site_transform(perturbation, number)
                )
                for number, (path, site) in enumerate(self.attentions.items())
            }
            qformer = replace_modules(self.model.qformer, modules)
        return qformer(encoder_hidden_states=tokens.to(weight.dtype), **inputs).last_hidden_state


class Blip2Images(_Blip2):
    """The image side of a transformers Blip2ForImageTextRetrieval."""

    @torch.inference_mode()
    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`."""
        states = self.qformer(tokens, perturbation, query_embeds=self.learned_queries(tokens))
        return F.normalize(_in_dtype_of(self.model.vision_projection, states), dim=-1)


class Blip2Retrieval(Blip2Images):
    """A transformers Blip2ForImageTextRetrieval with its tokenizer.

    Attributes:
        raw: Texts are read as they are, not through `process_caption`.
    """

    def __init__(self, name: str, revision: str, model: Any, tokenizer: Any, *, raw: bool = False) -> None:
        super().__init__(name, revision, model, tokenizer)
        self.raw = raw

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """See `ImageTextModel`."""
        batch, truncated = self._tokenize(texts)
        embedded = self.model.embeddings(input_ids=batch["input_ids"])
        output = self.model.qformer(query_embeds=embedded, query_length=0, attention_mask=batch["attention_mask"])
        embeddings = _in_dtype_of(self.model.text_projection, output.last_hidden_state[:, 0])
        return TextFeatures.from_embeddings(embeddings, truncated, MAX_TOKENS)

    @torch.inference_mode()
    def match(self, tokens: Tensor, texts: Sequence[str], perturbation: Perturbation | None = None) -> Tensor:
        """See `ImageTextModel`."""
        (batch, _), queries = self._tokenize(texts), self.learned_queries(tokens)
        mask = batch["attention_mask"]
        states = self.qformer(
            tokens,
            perturbation,
            query_embeds=self.model.embeddings(input_ids=batch["input_ids"], query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], 1),
        )
        return _in_dtype_of(self.model.itm_head, states[:, : queries.shape[1]]).mean(1)[:, 1]

    def _tokenize(self, texts: Sequence[str]) -> tuple[Any, list[bool]]:
        processed = texts if self.raw else [process_caption(text) for text in texts]
        batch, truncated = tokenize(self.tokenizer, processed, MAX_TOKENS)
        return batch.to(self.device), truncated


class Blip2Captions(_Blip2):
    """A transformers Blip2ForConditionalGeneration with a decoder-only language model, and its tokenizer."""

    @torch.inference_mode()
    def caption(self, tokens: Tensor, perturbation: Perturbation | None = None) -> list[str]:
        """See `ImageTextModel`."""
        states = self.qformer(tokens, perturbation, query_embeds=self.learned_queries(tokens))
        projection, begin = self.model.language_projection, self.model.config.text_config.bos_token_id
        prefix = projection(states.to(projection.weight.dtype))
        start = self.model.get_input_embeddings()(torch.full((len(tokens), 1), begin, device=tokens.device))
        embeddings = torch.cat([prefix.to(start.dtype), start], 1)
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        ids = self.model.language_model.generate(
            inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, num_beams=BEAMS,
            do_sample=False,
        )  # fmt: skip
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def process_caption(text: str) -> str:
    """A text as BLIP-2 was trained and measured on texts: LAVIS' caption processor, with its default of no prompt.

    Lower case, the signs . ! " ( ) * # : ; ~ dropped, white space collapsed, at most `MAX_WORDS` words.
    """
    spaced = re.sub(r"\s{2,}", " ", re.sub(r"[.!\"()*#:;~]", " ", text.lower()))
    return " ".join(spaced.rstrip("\n").strip(" ").split(" ")[:MAX_WORDS])


@register_model("blip2-raw", standalone=True)
@register_model("blip2", standalone=True)
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load the retrieval model. With random weights it has no text side.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    if pretrained:
        loaded = _load(Blip2ForImageTextRetrieval, RETRIEVAL_REPO, revision, device, dtype)
        return Blip2Retrieval(name, *loaded, raw=name == "blip2-raw")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = Blip2ForImageTextRetrieval(retrieval_config(Blip2Config))
    return Blip2Images(name, "random", model.to(device, getattr(torch, dtype)), None)


@register_model("blip2-captions", standalone=True)
def build_captions(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load the captioning model.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    from transformers import Blip2ForConditionalGeneration

    if not pretrained:
        raise Unavailable("blip2-captions has no untrained form: random weights write no captions.")
    return Blip2Captions(name, *_load(Blip2ForConditionalGeneration, CAPTION_REPO, revision, device, dtype))


def retrieval_config(config: Any) -> Any:
    """The retrieval model's true shape, for random weights."""
    return config(
        vision_config={"image_size": 364},
        qformer_config={"use_qformer_text_input": True, "vocab_size": 30523},
        image_text_hidden_size=256,
        num_query_tokens=32,
    )


def _in_dtype_of(linear: Any, x: Tensor) -> Tensor:
    """Apply a linear map in its own dtype and return float32: the Q-Former stays in float32 beside half weights."""
    output: Tensor = linear(x.to(linear.weight.dtype))
    return output.float()


def _load(model_class: Any, repo: str, revision: str | None, device: str, dtype: str) -> tuple[str, Any, Any]:
    """Commit, model and tokenizer."""
    from transformers import AutoTokenizer

    folder, commit = hub.download_weights(repo, revision)
    model = load_pretrained(model_class, folder, dtype=getattr(torch, dtype)).to(device)
    return commit, model, AutoTokenizer.from_pretrained(folder)
