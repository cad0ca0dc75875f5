"""Models that join pictures and words, by name. Reading the register imports no torch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from foir.errors import BadPrompt, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.images import Photo
    from foir.patches import PatchMask
    from foir.perturbation.query_perturbation import Perturbation
    from foir.prompts import Prompt


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Texts in the joint space: unit vectors float32 [n, dim], and what a user should know (a text was cut)."""

    vectors: np.ndarray
    notes: tuple[str, ...] = ()


class _Vectors(Protocol):
    def __call__(self, tokens: Tensor, pull: Perturbation | None = None) -> Tensor: ...


class Match(Protocol):
    """See `ImageTextModel.match`."""

    def __call__(self, tokens: Tensor, texts: Sequence[str], pull: Perturbation | None = None) -> Tensor:
        """One logit for each row of tokens and its text, [B]."""


class _Caption(Protocol):
    def __call__(self, tokens: Tensor, pull: Perturbation | None = None) -> list[str]: ...


def _no_vectors(tokens: Tensor, pull: Perturbation | None = None) -> Tensor:
    raise Unavailable("This model has no space in which words and pictures meet.")


def _no_words(texts: Sequence[str]) -> TextFeatures:
    raise Unavailable("This model reads no texts.")


@dataclass(frozen=True, eq=False)
class ImageTextModel:
    """A model of pictures and words. Its functions take a picture's tokens, which `look` makes once.

    Attributes:
        name: Registry name.
        revision: Commit or digest of the weights; "random" for untrained ones.
        device: Where the tokens lie.
        grid: Rows and columns of patches.
        special: Tokens before the patches.
        look: Pictures to tokens [B, special + rows * cols, d]: the expensive part.
        vectors: Tokens to unit vectors [B, q, dim]; a picture's score for a text is the largest of its q dot products.
        words: Texts to the joint space.
        match: One logit for each pair of a row of tokens and a text, [B]: more exact than `vectors`, and dear.
        caption: One sentence for each row of tokens; None where the model writes none.
        keys: Of each cross-attention the keys [B, h, tokens, D]; None in a dual encoder, which has none.
        theta: Which part of an object's keys `perturbation` spans, where nothing else is said.
        strength: How strong it pulls, likewise.
        encoder: The image side, where it is an encoder that pictures are pointed at with.
    """

    name: str
    revision: str
    device: str
    grid: tuple[int, int]
    first_patch: int
    encode_images: Callable[[Sequence[Image.Image]], Tensor]
    image_vectors: _Vectors = _no_vectors
    encode_texts: Callable[[Sequence[str]], TextFeatures] = _no_words
    match: Match | None = None
    caption: _Caption | None = None
    keys: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    theta: float = 0.95
    strength: float = 1.0
    encoder: Encoder | None = None

    def perturbation(self, tokens: Tensor, regions: Sequence[Sequence[PatchMask]], **options: Any) -> Perturbation:
        """What makes the model lean towards objects; hand it to `vectors`, `match` or `caption`.

        Args:
            tokens: From `look`.
            regions: For each row of tokens the objects on it, on this model's grid.
            options: See `foir.perturbation.query_perturbation.Perturbation.of`.

        Raises:
            BadPrompt: An option makes no sense.
            Unavailable: The model has no cross-attention.
        """
        from foir.perturbation.query_perturbation import Objects, Perturbation

        if self.keys is None:
            raise Unavailable(f"{self.name} joins pictures and words in one dot product only: nothing can be steered.")
        objects = Objects.of(regions, self.first_patch).to(self.device)
        options = {"theta": self.theta, "strength": self.strength, **options}
        return Perturbation.of(self.keys(tokens), objects, **options)

    def caption_image(
        self, tokens: Tensor, photo: Photo, prompt: Prompt | None = None, strength: float | None = None
    ) -> str:
        """A caption of one photo from its tokens, leaning towards what is pointed at.

        Args:
            tokens: From `look`, of this photo alone.
            photo: As it was read.
            prompt: What is pointed at; None for the whole photo.
            strength: How far the caption leans, 0 for not at all; the model's own choice if left out.

        Raises:
            BadPrompt: The prompt does not fit the photo.
            Unavailable: The model writes no captions, or can only see the whole.
        """
        from foir.patches import rasterise

        if self.caption is None:
            raise Unavailable(f"{self.name} writes no captions.")
        if strength is not None and (prompt is None or not strength >= 0):
            raise BadPrompt("A strength is 0 or more, and needs something that is pointed at.")
        if prompt is None:
            return self.caption(tokens)[0]
        region = rasterise(prompt.fit(photo.size, orientation=photo.orientation), photo.size, self.grid)
        pull = self.perturbation(tokens, [[region]], **({} if strength is None else {"strength": strength}))
        return self.caption(tokens, pull)[0]


_Build = Callable[..., ImageTextModel]


@dataclass(frozen=True)
class _Entry:
    build: _Build
    alone: bool


_register: dict[str, _Entry] = {}


def register_model(name: str, *, alone: bool = False) -> Callable[[_Build], _Build]:
    """Register a function `(encoder)` that adds words to the encoder of the same name.

    A model that stands `alone` is no encoder; its function is `(name, revision, device, dtype, pretrained)`.
    """

    def add(build: _Build) -> _Build:
        _register[name] = _Entry(build, alone)
        return build

    return add


@cache
def models() -> dict[str, _Entry]:
    """All registered models."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        if module.name.rpartition(".")[2] not in MACHINERY:
            importlib.import_module(module.name)
    return dict(_register)


MACHINERY = ("qperturb", "view")


def of_encoders() -> tuple[str, ...]:
    """The models whose image side is an encoder, so that an index can be made with them."""
    return tuple(name for name, entry in models().items() if not entry.alone)


def load(
    of: Encoder | str, *, revision: str | None = None, device: str = "auto", dtype: str = "float32",
    pretrained: bool = True,
) -> ImageTextModel:  # fmt: skip
    """Load a model by name, or add words to an encoder that is loaded already.

    Args:
        of: A registered name, or an encoder.
        revision: Commit, tag or branch of the weights' repository; the newest if left out.
        device: "cpu", "cuda", "mps", or "auto" for the fastest present.
        dtype: "float32", "bfloat16" or "float16".
        pretrained: False gives the true architecture with seeded random weights, where the model can have them.

    Raises:
        Unavailable: foir knows no words for it, or its weights are not at hand.
    """
    from foir import encoders

    name = of if isinstance(of, str) else of.name
    encoders.check_dtype(dtype)
    entry = models().get(name)
    if entry is None:
        raise Unavailable(f"{name} knows no words; foir has words for {', '.join(models())}.")
    how: dict[str, Any] = {"revision": revision, "device": device, "dtype": dtype, "pretrained": pretrained}
    if entry.alone:
        return entry.build(name, **(how | {"device": encoders.resolve_device(device)}))
    return entry.build(encoders.load(of, **how) if isinstance(of, str) else of)


def normalise_query(text: str) -> str:
    """A text as a person typed it, with its white space in order.

    Raises:
        BadPrompt: There is nothing in it.
    """
    words = " ".join(text.split())
    if not words:
        raise BadPrompt("The text is empty: say what to look for.")
    return words


def truncation_notes(cut: Sequence[bool], limit: int) -> tuple[str, ...]:
    """What to say where any text was cut to `limit` tokens, two of which are no words."""
    return (f"Only the first {limit - 2} word pieces were read.",) if any(cut) else ()


__all__ = [
    "ImageTextModel",
    "Match",
    "TextFeatures",
    "register_model",
    "truncation_notes",
    "load",
    "models",
    "of_encoders",
    "normalise_query",
]
