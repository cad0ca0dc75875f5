"""BLIP-2: 32 learned queries read the picture in the six cross-attentions of the Q-Former, where Q-Pert acts.

`blip2` scores pictures against texts (contrastive, and a matching head for the best); `blip2-captions` hands the
queries to a language model. They are two checkpoints with two image towers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from foir.encoders.clip import MEAN, STD
from foir.image_text import ImageTextModel, TextFeatures, register_model, truncation_notes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from foir.perturbation.query_perturbation import Perturbation

SEARCH, CAPTIONS = "Salesforce/blip2-itm-vit-g-coco", "Salesforce/blip2-opt-2.7b-coco"
TEXT = 35  # tokens of a text that are read, as in the paper
WORDS, BEAMS = 30, 5  # of a caption
THETA, STRENGTH = 0.99, 8.0  # of the released code's own results


@register_model("blip2", alone=True)
def build(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load the retrieval model.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    from transformers import AutoTokenizer, Blip2Config, Blip2ForImageTextRetrieval

    if not pretrained:
        return wrap(_random(Blip2ForImageTextRetrieval, search_config(Blip2Config), device, dtype), None, "random")
    model, folder, commit = _load(Blip2ForImageTextRetrieval, SEARCH, revision, device, dtype)
    return wrap(model, AutoTokenizer.from_pretrained(folder), commit)


@register_model("blip2-captions", alone=True)
def build_captions(name: str, revision: str | None, device: str, dtype: str, pretrained: bool) -> ImageTextModel:
    """Load the captioning model.

    Raises:
        Unavailable: The weights are neither cached nor reachable.
    """
    from transformers import AutoTokenizer, Blip2ForConditionalGeneration

    from foir.errors import Unavailable

    if not pretrained:
        raise Unavailable("blip2-captions has no untrained form: random words say nothing.")
    model, folder, commit = _load(Blip2ForConditionalGeneration, CAPTIONS, revision, device, dtype)
    return wrap_captions(model, AutoTokenizer.from_pretrained(folder), commit)


def search_config(config: Any) -> Any:
    """The retrieval model's true shape, for random weights."""
    return config(
        vision_config={"image_size": 364},
        qformer_config={"use_qformer_text_input": True, "vocab_size": 30523},
        image_text_hidden_size=256,
        num_query_tokens=32,
    )


def wrap(model: Any, tokenizer: Any, revision: str) -> ImageTextModel:
    """Open a transformers Blip2ForImageTextRetrieval and its tokenizer."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - the field's usual name

    eyes = _Eyes(model)

    def read(texts: Sequence[str]) -> Any:
        made = tokenizer(list(texts), truncation=True, max_length=TEXT, padding=True, return_tensors="pt")
        return made.to(model.device)

    @torch.inference_mode()
    def vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
        seen = eyes.qformer(pull)(
            query_embeds=eyes.queries(tokens), encoder_hidden_states=eyes.seen(tokens)
        ).last_hidden_state
        return F.normalize(_through(model.vision_projection, seen), dim=-1)

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> TextFeatures:
        given = read(texts)
        embedded = model.embeddings(input_ids=given["input_ids"])
        seen = model.qformer(query_embeds=embedded, query_length=0, attention_mask=given["attention_mask"])
        made = F.normalize(_through(model.text_projection, seen.last_hidden_state[:, 0]), dim=-1)
        cut = [len(ids) > TEXT for ids in tokenizer(list(texts))["input_ids"]]
        return TextFeatures(made.cpu().numpy(), truncation_notes(cut, TEXT))

    @torch.inference_mode()
    def match(tokens: Tensor, texts: Sequence[str], pull: Perturbation | None = None) -> Tensor:
        given, queries = read(texts), eyes.queries(tokens)
        seen = eyes.qformer(pull)(
            query_embeds=model.embeddings(input_ids=given["input_ids"], query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=torch.cat([given["attention_mask"].new_ones(queries.shape[:2]), given["attention_mask"]], 1),
            encoder_hidden_states=eyes.seen(tokens),
        ).last_hidden_state
        return _through(model.itm_head, seen[:, : queries.shape[1]]).mean(1)[:, 1]

    reads: dict[str, Any] = (
        {} if tokenizer is None else {"encode_texts": words, "match": match}
    )  # random weights have none
    return eyes.model("blip2", revision, image_vectors=vectors, **reads)


def wrap_captions(model: Any, tokenizer: Any, revision: str) -> ImageTextModel:
    """Open a transformers Blip2ForConditionalGeneration with a decoder-only language model, and its tokenizer."""
    import torch

    eyes = _Eyes(model)
    begin = model.config.text_config.bos_token_id

    @torch.inference_mode()
    def caption(tokens: Tensor, pull: Perturbation | None = None) -> list[str]:
        seen = eyes.qformer(pull)(
            query_embeds=eyes.queries(tokens), encoder_hidden_states=eyes.seen(tokens)
        ).last_hidden_state
        shown = model.language_projection(seen.to(model.language_projection.weight.dtype))
        start = model.get_input_embeddings()(torch.full((len(tokens), 1), begin, device=tokens.device))
        given = torch.cat([shown.to(start.dtype), start], 1)
        mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        ids = model.language_model.generate(
            inputs_embeds=given, attention_mask=mask, max_new_tokens=WORDS, num_beams=BEAMS, do_sample=False
        )
        return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    return eyes.model("blip2-captions", revision, caption=caption)


class _Eyes:
    """What both checkpoints have: an image tower, and a Q-Former that can be pulled."""

    def __init__(self, model: Any) -> None:
        model.eval().requires_grad_(False)
        self.whole = model
        self.vision = model.config.vision_config
        self.sites: dict[str, nn.Module] = {
            f"encoder.layer.{i}.crossattention.attention": layer.crossattention.attention
            for i, layer in enumerate(model.qformer.encoder.layer)
            if layer.has_cross_attention
        }

    def model(self, name: str, revision: str, **parts: Any) -> ImageTextModel:
        """The whole with the parts that a checkpoint adds."""
        side = self.vision.image_size // self.vision.patch_size
        return ImageTextModel(
            name, revision, str(self.whole.device), (side, side), 1, self.look, keys=self.keys, theta=THETA,
            strength=STRENGTH, **parts,
        )  # fmt: skip

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Tokens behind the image tower."""
        import torch

        from foir.encoders.base import preprocess

        pixels = torch.stack([preprocess(picture, self.vision.image_size, MEAN, STD) for picture in pictures])
        weight = self.whole.vision_model.embeddings.patch_embedding.weight
        with torch.inference_mode():
            return self.whole.vision_model(pixels.to(weight.device, weight.dtype)).last_hidden_state

    def keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Keys of the six cross-attentions; they depend on the picture alone."""
        import torch

        from foir.perturbation.views import split

        with torch.inference_mode():
            return tuple(split(_through(site.key, tokens), site.num_attention_heads) for site in self._attentions())

    def seen(self, tokens: Tensor) -> Tensor:
        """Tokens in the Q-Former's dtype."""
        weight: Tensor = self._attentions()[0].key.weight
        return tokens.to(weight.dtype)

    def queries(self, tokens: Tensor) -> Tensor:
        """The learned queries, for each row of tokens."""
        return self.whole.query_tokens.expand(len(tokens), -1, -1)

    def qformer(self, pull: Perturbation | None) -> Callable[..., Any]:
        """The Q-Former itself, or a view of it whose cross-attentions are pulled."""
        from foir.perturbation.views import PerturbedQueries, replace_modules, site_transform

        if pull is None:
            return self.whole.qformer
        parts: dict[str, nn.Module] = {
            f"{path}.query": PerturbedQueries(site.query, site.num_attention_heads, site_transform(pull, number))
            for number, (path, site) in enumerate(zip(self.sites, self._attentions(), strict=True))
        }
        return replace_modules(self.whole.qformer, parts)

    def _attentions(self) -> list[Any]:
        return list(self.sites.values())


def _through(linear: Any, x: Tensor) -> Tensor:
    """A linear map in its own dtype, float32 behind it: the Q-Former stays in float32 beside half weights."""
    made: Tensor = linear(x.to(linear.weight.dtype))
    return made.float()


def _load(kind: Any, repo: str, revision: str | None, device: str, dtype: str) -> tuple[Any, Any, str]:
    import torch

    from foir import hub

    folder, commit = hub.download_weights(repo, revision)
    return kind.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device), folder, commit


def _random(kind: Any, config: Any, device: str, dtype: str) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config).to(device, getattr(torch, dtype))
