"""What turns pictures into rows of an index: the encoders of its spaces. Only opening them imports torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from foir import masks
from foir.errors import BadIndex, Unavailable
from foir.index import OBJECTS, Index, Object

LARGEST = 12_000_000  # pixels of a picture whose objects are looked for

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.small_objects.crops import DetectedObject
    from foir.small_objects.detect import Detector


@dataclass(frozen=True)
class MadeBy:
    """What makes a space: an encoder, its revision and its probe feature (see `foir.index.Space`), and in which way.

    The way is "" for a plain feature of the whole picture; for one that stands for all its objects it says how.
    """

    encoder: str
    revision: str
    probe: tuple[float, ...]
    way: str = ""


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

    def pixels(self, image: Image.Image, known: Sequence[Object] = ()) -> Any:
        """A picture, with the objects that are known of it, as the encoders want it; called on many threads."""

    def see(self, pixels: Sequence[Any]) -> Seen:
        """A batch of pictures, encoded."""


@dataclass(frozen=True)
class Frames:
    """What encoders want of a picture, without the encoders: side, mean and deviation for each, and whether objects."""

    windows: tuple[tuple[int, tuple[float, ...], tuple[float, ...]], ...]
    objects: bool

    def pixels(self, image: Image.Image, known: Sequence[Object] = ()) -> Any:
        """Tensors, one for each encoder; then, for the space of objects, the picture with what is known."""
        from foir.encoders.base import preprocess

        tensors = tuple(preprocess(image, *window) for window in self.windows)
        return (*tensors, _reduced(image, known)) if self.objects else tensors


class Encoders:
    """The registered encoders. Spaces that share one share its work."""

    def __init__(self, encoders: Mapping[str, Encoder], *, objects: bool = False) -> None:
        """Open the eyes.

        Args:
            encoders: By space.
            objects: There is a space `objects` too; the encoder of `image` makes it.
        """
        self.encoders, self.objects = encoders, objects
        self.different = list({id(encoder): encoder for encoder in encoders.values()}.values())
        self.frames = Frames(tuple((e.size, e.mean, e.std) for e in self.different), objects)
        probes = [tuple(encoder.reference_feature().tolist()) for encoder in self.different]
        self.made_by = {
            name: MadeBy(encoder.name, encoder.revision, probes[self.different.index(encoder)])
            for name, encoder in encoders.items()
        }
        if objects:
            from foir.small_objects import detect
            from foir.small_objects.embed import mode_for

            finder = detect.detector_name(encoders["image"])
            way = json.dumps({**mode_for(encoders["image"]).as_dict, "finder": finder}, sort_keys=True)
            self.made_by[OBJECTS] = replace(self.made_by["image"], way=way)

    def pixels(self, image: Image.Image, known: Sequence[Object] = ()) -> Any:
        """See `Frames.pixels`."""
        return self.frames.pixels(image, known)

    def see(self, pixels: Sequence[Any]) -> Seen:
        """Encode a batch."""
        from torch import stack

        made = [e.finish(e.prefix(stack([each[i] for each in pixels]))) for i, e in enumerate(self.different)]
        vectors = [_own(features.vectors) for features in made]
        first = made[self.different.index(self.encoders["image"])]
        by_space = {name: vectors[self.different.index(encoder)] for name, encoder in self.encoders.items()}
        if self.objects:
            by_space[OBJECTS] = self._objects([each[-1] for each in pixels])
        return Seen(by_space, _own(first.z), _own(first.residual))

    def _objects(self, pictures: Sequence[tuple[Image.Image, Sequence[DetectedObject]]]) -> np.ndarray:
        """One vector for all objects of each picture: the known ones, or what is found where none is known."""
        from torch import cat

        from foir.small_objects.embed import embed_objects

        found = ((image, known or self._detector(image)) for image, known in pictures)
        return _own(cat(embed_objects(self.encoders["image"], found)))

    @cached_property
    def _detector(self) -> Detector:
        """Finds objects where none are known; loaded when the first such picture comes."""
        from foir.small_objects import detect

        return detect.load(self.encoders["image"])


def _reduced(image: Image.Image, known: Sequence[Object]) -> tuple[Image.Image, list[DetectedObject]]:
    """A picture and its known objects, both by a whole number smaller where many such would not fit into memory."""
    from foir.small_objects.crops import DetectedObject

    by = math.ceil(math.sqrt(image.width * image.height / LARGEST))
    things = []
    for thing in known:
        mask = None if thing.mask is None else masks.decode(thing.mask, image.size)
        x0, y0, x1, y1 = (corner / by for corner in thing.box)
        things.append(DetectedObject((x0, y0, x1, y1), None if mask is None else mask[::by, ::by]))
    return (image.reduce(by) if by > 1 else image), things


def _own(values: Tensor) -> np.ndarray:
    """Float32 in memory of its own; a view would keep the tokens of its whole batch until the shard is done."""
    return np.array(values.float().cpu(), np.float32)


def opened(
    encoder: str, text: str | None, objects: str | None, *, revision: str | None, device: str, dtype: str
) -> Encoders:
    """The eyes of a new index.

    Args:
        encoder: Registry name for the `image` space.
        text: The model whose joint space with words is kept too; None keeps the encoder's own where it has one.
        objects: "mao" keeps one vector more for each picture, which stands for all its objects.
        revision: Of the encoder's weights.
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        Unavailable: A model cannot be loaded, or knows no words; there is no such way to keep objects;
            prompts cannot steer the encoder.
    """
    from foir import encoders, image_text

    if objects not in (None, "mao"):
        raise Unavailable(f"There is no way {objects!r} to keep objects: use mao.")
    if not encoders.encoder_spec(encoder).promptable:
        raise Unavailable(f"{encoder} has no CLS token, so nobody could point at what it sees: use another encoder.")
    eye = encoders.load(encoder, revision=revision, device=device, dtype=dtype)
    known = image_text.encoder_models()
    text = text or (encoder if encoder in known else None)
    eyes = {"image": eye}
    if text is not None:
        if text not in known:
            raise Unavailable(f"{text} knows no words for an index; foir has words for {', '.join(known)}.")
        eyes["text"] = eye if text == encoder else encoders.load(text, device=device, dtype=dtype)
    return Encoders(eyes, objects=objects is not None)


def of_index(index: Index, *, device: str, dtype: str) -> Encoders:
    """The eyes that an index was made with.

    Raises:
        Unavailable: A model cannot be loaded.
        BadIndex: One gives other features now than when the index was made, or objects are found in another way.
    """
    from foir.search.encoder_check import check_encoder, load_encoder

    opened: dict[tuple[str, str], Encoder] = {}
    for space in index.spaces.values():
        if (space.encoder, space.revision) not in opened:
            encoder = load_encoder(space, device, dtype)
            check_encoder(encoder, space)
            opened[space.encoder, space.revision] = encoder
    eyes = {name: opened[space.encoder, space.revision] for name, space in index.spaces.items() if name != OBJECTS}
    found = Encoders(eyes, objects=OBJECTS in index.spaces)
    for name, space in index.spaces.items():
        if found.made_by[name].way != space.recipe:
            how = (
                "are found in another way now than when it was made"
                if space.recipe
                else "do not say how they were found"
            )
            raise BadIndex(f"The index's {name} {how}: build it anew.")
    return found
