"""The base class of all image-text models, and what their text and image inputs have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from foir.errors import BadPrompt, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.images import Photo
    from foir.patches import Crop, PatchMask
    from foir.perturbation.query_perturbation import Perturbation
    from foir.prompts import Prompt


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Texts in the joint space: unit vectors float32 [n, dim], and notes for the user (a text was truncated)."""

    vectors: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def from_embeddings(cls, embeddings: Tensor, truncated: Sequence[bool], limit: int) -> TextFeatures:
        """Normalise embeddings [n, dim] of texts, of which some were truncated to `limit` tokens."""
        from torch.nn.functional import normalize

        return cls(normalize(embeddings.float(), dim=-1).cpu().numpy(), truncation_notes(truncated, limit))


class Match(Protocol):
    """See `ImageTextModel.match`."""

    def __call__(self, tokens: Tensor, texts: Sequence[str], perturbation: Perturbation | None = None) -> Tensor:
        """One logit for each row of tokens and its text, [B]."""


class Caption(Protocol):
    """See `ImageTextModel.caption`."""

    def __call__(self, tokens: Tensor, perturbation: Perturbation | None = None) -> list[str]:
        """One sentence for each row of tokens."""


class ImageTextModel:
    """A model of images and texts. Its methods take an image's tokens, which `encode_images` computes once.

    Attributes:
        name: Registry name.
        revision: Commit or digest of the weights; "random" for untrained ones.
        device: Device of the tokens.
        grid: Rows and columns of patches.
        first_patch: Column of the first patch token.
        theta: Default share of an object's key energy that `perturbation` keeps.
        strength: Default strength of `perturbation`.
        encoder: The image side, where it is a promptable encoder.
        match: One logit for each row of tokens and its text, [B]; more exact than vectors and slower. None if missing.
        caption: One sentence for each row of tokens; None where the model writes none.
        vocabulary: All words that it learnt; None where that is not known.
    """

    theta: float = 0.95
    strength: float = 1.0
    encoder: Encoder | None = None
    match: Match | None = None
    caption: Caption | None = None
    vocabulary: Collection[str] | None = None

    def __init__(self, name: str, revision: str, device: str, grid: tuple[int, int], first_patch: int = 1) -> None:
        self.name, self.revision, self.device = name, revision, device
        self.grid, self.first_patch = grid, first_patch

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Encode RGB images to tokens [B, first_patch + rows * cols, d]; the expensive step."""
        raise NotImplementedError

    def crop(self, size: tuple[int, int]) -> Crop | None:
        """The part of an image of this (width, height) that `encode_images` resizes onto the grid; None for all."""
        return None

    def region(self, prompt: Prompt, size: tuple[int, int], *, orientation: int = 1) -> PatchMask:
        """A prompt on this model's grid.

        Args:
            prompt: What is pointed at.
            size: Width and height of the image.
            orientation: See `Prompt.fit`.

        Raises:
            BadPrompt: The prompt does not fit the image, or lies outside what the model sees of it.
        """
        from foir.patches import rasterise

        return rasterise(prompt.fit(size, orientation=orientation), size, self.grid, crop=self.crop(size))

    def visible_regions(self, prompts: Iterable[Prompt], size: tuple[int, int]) -> list[PatchMask]:
        """Prompts on this model's grid, without those that `region` refuses."""
        found = []
        for prompt in prompts:
            with suppress(BadPrompt):
                found.append(self.region(prompt, size))
        return found

    def image_vectors(self, tokens: Tensor, perturbation: Perturbation | None = None) -> Tensor:
        """Unit vectors [B, q, dim] of tokens; an image's score for a text is the largest of its q dot products.

        Raises:
            Unavailable: The model has no joint space.
        """
        raise Unavailable(f"{self.name} has no joint space of images and texts.")

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Encode texts in the joint space.

        Raises:
            Unavailable: The model has no text encoder.
        """
        raise Unavailable(f"{self.name} reads no texts.")

    def attention_keys(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Keys [B, h, tokens, D] of each cross-attention; they depend on the image alone.

        Raises:
            Unavailable: The model has no cross-attention.
        """
        raise Unavailable(f"{self.name} joins images and texts in one dot product only: nothing can be steered.")

    def perturbation(self, tokens: Tensor, regions: Sequence[Sequence[PatchMask]], **options: Any) -> Perturbation:
        """A perturbation towards objects, for `image_vectors`, `match` or `caption`.

        Args:
            tokens: From `encode_images`.
            regions: For each row of tokens the objects on it, from `region` or `visible_regions`.
            options: See `foir.perturbation.query_perturbation.Perturbation.from_keys`.

        Raises:
            BadPrompt: An option is out of range.
            Unavailable: The model has no cross-attention.
        """
        from foir.perturbation.query_perturbation import Objects, Perturbation

        keys = self.attention_keys(tokens)
        objects = Objects.from_regions(regions, self.first_patch).to(self.device)
        return Perturbation.from_keys(keys, objects, **{"theta": self.theta, "strength": self.strength, **options})

    def caption_image(
        self, tokens: Tensor, photo: Photo, prompt: Prompt | None = None, strength: float | None = None
    ) -> str:
        """Caption one photo, with emphasis on the prompted region.

        Args:
            tokens: From `encode_images`, of this photo alone.
            photo: The photo as read.
            prompt: The region to emphasise; None for the whole photo.
            strength: Strength of the emphasis, 0 for none; the model's default if left out.

        Raises:
            BadPrompt: See `region`.
            Unavailable: The model writes no captions, or has no cross-attention.
        """
        if self.caption is None:
            raise Unavailable(f"{self.name} writes no captions.")
        if strength is not None and (prompt is None or not 0 <= strength < math.inf):
            raise BadPrompt("A strength is 0 or more, and needs something that is pointed at.")
        if prompt is None:
            return self.caption(tokens)[0]
        region = self.region(prompt, photo.size, orientation=photo.orientation)
        options = {} if strength is None else {"strength": strength}
        return self.caption(tokens, self.perturbation(tokens, [[region]], **options))[0]


def truncation_notes(truncated: Sequence[bool], limit: int) -> tuple[str, ...]:
    """A note for the user if any text was truncated to `limit` tokens, two of which are special."""
    return (f"Only the first {limit - 2} word pieces were read.",) if any(truncated) else ()


def tokenize(tokenizer: Any, texts: Sequence[str], limit: int, padding: bool | str = True) -> tuple[Any, list[bool]]:
    """A batch of token ids and attention masks of a transformers tokenizer, and which texts were truncated."""
    batch = tokenizer(list(texts), truncation=True, max_length=limit, padding=padding, return_tensors="pt")
    return batch, [len(ids) > limit for ids in tokenizer(list(texts))["input_ids"]]


def preprocess_batch(
    images: Sequence[Image.Image], size: int, mean: Sequence[float], std: Sequence[float], weight: Tensor
) -> Tensor:
    """Normalised pixels [B, 3, size, size] on the device and in the dtype of an image encoder's `weight`."""
    import torch

    from foir.encoders.base import preprocess

    return torch.stack([preprocess(image, size, mean, std) for image in images]).to(weight.device, weight.dtype)
