"""The encoders that turn images into rows of an index. Only loading them imports torch."""

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

MAX_DETECTION_PIXELS = 12_000_000  # larger images are reduced before objects are detected in them

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.small_objects.crops import DetectedObject
    from foir.small_objects.detect import Detector


@dataclass(frozen=True)
class EncoderRecord:
    """What an index records about the encoder of a space; see `foir.index.Space`.

    Attributes:
        encoder: Registry name.
        revision: Commit of the weights.
        reference_feature: Its feature of a fixed image, to recognise the encoder by.
        recipe: How one vector is made for all objects of an image; "" for a feature of the whole image.
    """

    encoder: str
    revision: str
    reference_feature: tuple[float, ...]
    recipe: str = ""


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """The features of some images, all float32.

    Attributes:
        vectors: Unit vectors [n, dim] by space.
        z: CLS head outputs of the `image` space [n, h, d_k].
        residual: CLS residuals of the `image` space [n, d].
    """

    vectors: Mapping[str, np.ndarray]
    z: np.ndarray
    residual: np.ndarray


class Preprocess(Protocol):
    """Turns an image and its known objects into an input of `SpaceEncoders.encode`."""

    def __call__(self, image: Image.Image, objects: Sequence[Object] = (), /) -> Any:
        """The input. Called from many threads."""


class SpaceEncoders(Protocol):
    """The encoders of all spaces of an index."""

    @property
    def records(self) -> Mapping[str, EncoderRecord]:
        """What the index records, by space."""

    @property
    def preprocess(self) -> Preprocess:
        """Makes the inputs of `encode`. Can be pickled without the encoders."""

    def encode(self, inputs: Sequence[Any]) -> EncodedBatch:
        """Encode a batch of preprocessed images."""


@dataclass(frozen=True)
class Preprocessor:
    """Preprocessing for encoders: (side, mean, deviation) for each of them, and whether objects are encoded."""

    windows: tuple[tuple[int, tuple[float, ...], tuple[float, ...]], ...]
    with_objects: bool

    def __call__(self, image: Image.Image, objects: Sequence[Object] = (), /) -> Any:
        """A tensor for each encoder, then (reduced image, its known objects) if objects are encoded."""
        from foir.encoders.base import preprocess

        tensors = tuple(preprocess(image, *window) for window in self.windows)
        return (*tensors, _reduce(image, objects)) if self.with_objects else tensors


class LoadedEncoders:
    """Encoders of the registry. Spaces with the same encoder share its work."""

    def __init__(self, encoders: Mapping[str, Encoder], *, with_objects: bool = False) -> None:
        """Prepare encoding.

        Args:
            encoders: By space.
            with_objects: Add the space `objects`, made by the encoder of `image`.
        """
        self.encoders, self.with_objects = encoders, with_objects
        self.unique = list({id(encoder): encoder for encoder in encoders.values()}.values())
        self.preprocess = Preprocessor(tuple((e.size, e.mean, e.std) for e in self.unique), with_objects)
        features = [tuple(encoder.reference_feature().tolist()) for encoder in self.unique]
        self.records = {
            name: EncoderRecord(encoder.name, encoder.revision, features[self.unique.index(encoder)])
            for name, encoder in encoders.items()
        }
        if with_objects:
            from foir.small_objects import detect
            from foir.small_objects.embed import mode_for

            facts = {**mode_for(encoders["image"]).as_dict, "finder": detect.detector_name(encoders["image"])}
            self.records[OBJECTS] = replace(self.records["image"], recipe=json.dumps(facts, sort_keys=True))

    def encode(self, inputs: Sequence[Any]) -> EncodedBatch:
        """Encode a batch; see `SpaceEncoders.encode`."""
        from torch import stack

        features = [e.finish(e.prefix(stack([each[i] for each in inputs]))) for i, e in enumerate(self.unique)]
        vectors = [_to_numpy(each.vectors) for each in features]
        image_features = features[self.unique.index(self.encoders["image"])]
        by_space = {name: vectors[self.unique.index(encoder)] for name, encoder in self.encoders.items()}
        if self.with_objects:
            by_space[OBJECTS] = self._encode_objects([each[-1] for each in inputs])
        return EncodedBatch(by_space, _to_numpy(image_features.z), _to_numpy(image_features.residual))

    def _encode_objects(self, images: Sequence[tuple[Image.Image, Sequence[DetectedObject]]]) -> np.ndarray:
        """One vector for all objects of each image: for the known ones, or for detected ones where none is known."""
        from torch import cat

        from foir.small_objects.embed import embed_objects

        detected = ((image, objects or self._detector(image)) for image, objects in images)
        return _to_numpy(cat(embed_objects(self.encoders["image"], detected)))

    @cached_property
    def _detector(self) -> Detector:
        """Detects objects where none are known. Loaded for the first such image."""
        from foir.small_objects import detect

        return detect.load(self.encoders["image"])


def _reduce(image: Image.Image, objects: Sequence[Object]) -> tuple[Image.Image, list[DetectedObject]]:
    """An image and its known objects, both reduced by a whole factor if many such images would not fit into memory."""
    from foir.small_objects.crops import DetectedObject

    factor = math.ceil(math.sqrt(image.width * image.height / MAX_DETECTION_PIXELS))
    reduced = []
    for known in objects:
        mask = None if known.mask is None else masks.decode(known.mask, image.size)
        x0, y0, x1, y1 = (corner / factor for corner in known.box)
        reduced.append(DetectedObject((x0, y0, x1, y1), None if mask is None else mask[::factor, ::factor]))
    return (image.reduce(factor) if factor > 1 else image), reduced


def _to_numpy(values: Tensor) -> np.ndarray:
    """A float32 copy. A view would keep the tokens of its whole batch in memory until the shard is written."""
    return np.array(values.float().cpu(), np.float32)


def load_encoders(
    encoder: str, text: str | None, objects: str | None, *, revision: str | None, device: str, dtype: str
) -> LoadedEncoders:
    """Load the encoders of a new index.

    Args:
        encoder: Registry name for the `image` space.
        text: The model of the `text` space, for text queries; None takes `encoder` if it has a text tower.
        objects: "mao" adds the space `objects`: one vector for all objects of an image.
        revision: Of the encoder's weights.
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        Unavailable: A model cannot be loaded or encodes no text, the method for objects is unknown, or the encoder
            cannot be prompted.
    """
    from foir import encoders, image_text

    if objects not in (None, "mao"):
        raise Unavailable(f"There is no method {objects!r} to encode objects: use mao.")
    if not encoders.encoder_spec(encoder).promptable:
        raise Unavailable(f"{encoder} has no CLS token, so prompts cannot steer it: use another encoder.")
    loaded = {"image": encoders.load(encoder, revision=revision, device=device, dtype=dtype)}
    text_models = image_text.encoder_models()
    text = text or (encoder if encoder in text_models else None)
    if text is not None:
        if text not in text_models:
            raise Unavailable(f"{text} encodes no text for an index; these models do: {', '.join(text_models)}.")
        loaded["text"] = loaded["image"] if text == encoder else encoders.load(text, device=device, dtype=dtype)
    return LoadedEncoders(loaded, with_objects=objects is not None)


def load_index_encoders(index: Index, *, device: str, dtype: str) -> LoadedEncoders:
    """Load the encoders that an index was made with.

    Raises:
        Unavailable: A model cannot be loaded.
        BadIndex: One gives other features than when the index was made, or objects are detected by another recipe.
    """
    from foir.search.encoder_check import check_encoder, load_encoder

    loaded: dict[tuple[str, str], Encoder] = {}
    for space in index.spaces.values():
        if (space.encoder, space.revision) not in loaded:
            encoder = load_encoder(space, device, dtype)
            check_encoder(encoder, space)
            loaded[space.encoder, space.revision] = encoder
    by_space = {name: loaded[space.encoder, space.revision] for name, space in index.spaces.items() if name != OBJECTS}
    encoders = LoadedEncoders(by_space, with_objects=OBJECTS in index.spaces)
    for name, space in index.spaces.items():
        if encoders.records[name].recipe != space.recipe:
            problem = "were detected by another recipe" if space.recipe else "do not record how they were detected"
            raise BadIndex(f"The index's {name} {problem}: rebuild the index.")
    return encoders
