"""What turns pictures into rows of an index: the encoders of its spaces. Only opening them imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from foir.errors import Unavailable
from foir.index import Index

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder


@dataclass(frozen=True)
class MadeBy:
    """Which encoder makes a space: its name, its revision, and its probe feature; see `foir.index.Space`."""

    encoder: str
    revision: str
    probe: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """Some pictures as an index keeps them, all float32.

    Attributes:
        vectors: Unit vectors [n, dim] by space.
        z: CLS head outputs of the `image` space [n, h, d_k].
        residual: CLS residuals of it [n, d].
    """

    vectors: Mapping[str, np.ndarray]
    z: np.ndarray
    residual: np.ndarray


class Eyes(Protocol):
    """The encoders of an index."""

    @property
    def made_by(self) -> Mapping[str, MadeBy]:
        """What makes each space."""

    def pixels(self, image: Image.Image) -> Any:
        """A picture as the encoders want it; called on many threads."""

    def see(self, pixels: Sequence[Any]) -> Seen:
        """A batch of pictures, encoded."""


class Encoders:
    """The registered encoders. Spaces that share one share its work."""

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self.encoders = encoders
        self.different = list({id(encoder): encoder for encoder in encoders.values()}.values())
        probes = [tuple(encoder.probe().tolist()) for encoder in self.different]
        self.made_by = {
            name: MadeBy(encoder.name, encoder.revision, probes[self.different.index(encoder)])
            for name, encoder in encoders.items()
        }

    def pixels(self, image: Image.Image) -> Any:
        """Tensors, one for each different encoder."""
        return tuple(encoder.pixels([image])[0] for encoder in self.different)

    def see(self, pixels: Sequence[Any]) -> Seen:
        """Encode a batch."""
        from torch import stack

        made = [e.finish(e.prefix(stack([each[i] for each in pixels]))) for i, e in enumerate(self.different)]
        vectors = [_own(features.vectors) for features in made]
        first = made[self.different.index(self.encoders["image"])]
        return Seen(
            {name: vectors[self.different.index(encoder)] for name, encoder in self.encoders.items()},
            _own(first.z),
            _own(first.residual),
        )


def _own(values: Tensor) -> np.ndarray:
    """Float32 in memory of its own; a view would keep the tokens of its whole batch until the shard is done."""
    return np.array(values.float().cpu(), np.float32)


def opened(encoder: str, text: str | None, *, revision: str | None, device: str, dtype: str) -> Encoders:
    """The eyes of a new index.

    Args:
        encoder: Registry name for the `image` space.
        text: The model whose joint space with words is kept too; None keeps the encoder's own where it has one.
        revision: Of the encoder's weights.
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        Unavailable: A model cannot be loaded, or knows no words.
    """
    from foir import crossmodal, encoders

    eye = encoders.load(encoder, revision=revision, device=device, dtype=dtype)
    known = crossmodal.of_encoders()
    text = text or (encoder if encoder in known else None)
    if text is None:
        return Encoders({"image": eye})
    if text not in known:
        raise Unavailable(f"{text} knows no words for an index; foir has words for {', '.join(known)}.")
    return Encoders({"image": eye, "text": eye if text == encoder else encoders.load(text, device=device, dtype=dtype)})


def of_index(index: Index, *, device: str, dtype: str) -> Encoders:
    """The eyes that an index was made with.

    Raises:
        Unavailable: A model cannot be loaded.
        BadIndex: One gives other features now than when the index was made.
    """
    from foir.index.made_by import check_same, encoder_of

    opened: dict[tuple[str, str], Encoder] = {}
    for space in index.spaces.values():
        if (space.encoder, space.revision) not in opened:
            encoder = encoder_of(space, device, dtype)
            check_same(encoder, space)
            opened[space.encoder, space.revision] = encoder
    return Encoders({name: opened[space.encoder, space.revision] for name, space in index.spaces.items()})
