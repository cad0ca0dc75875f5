"""The encoders that turn images into rows of an index. Only loading them imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from foir import masks
from foir.errors import BadIndex, Unavailable
from foir.index import Index, Object

DECODED = 2  # pixels, along each side, for one of the encoder's input
MAX_DETECTION_PIXELS = 12_000_000  # larger images are reduced before objects are detected in them

if TYPE_CHECKING:
    from torch import Tensor

    from foir.encoders.base import Encoder
    from foir.regions.encoder import PictureRegions
    from foir.regions.recipe import RegionRecipe
    from foir.small_objects.crops import DetectedObject


@dataclass(frozen=True)
class EncoderRecord:
    """What an index records about the encoder of a space; see `foir.index.Space`.

    Attributes:
        encoder: Registry name.
        revision: Commit of the weights.
        reference_feature: Its feature of a fixed image, to recognise the encoder by.
        dtype: In which it computes.
    """

    encoder: str
    revision: str
    reference_feature: tuple[float, ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """The features of some images, all float32.

    Attributes:
        vectors: Unit vectors [n, dim] by space.
        z: CLS head outputs of the `image` space [n, h, d_k].
        residual: CLS residuals of the `image` space [n, d].
        regions: The regions of each image; empty where none are made.
    """

    vectors: Mapping[str, np.ndarray]
    z: np.ndarray
    residual: np.ndarray
    regions: Sequence[PictureRegions] = ()


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
    def region_recipe(self) -> str:
        """How regions are made; "" where none are."""

    @property
    def preprocess(self) -> Preprocess:
        """Makes the inputs of `encode`. Can be pickled without the encoders."""

    def encode(self, inputs: Sequence[Any]) -> EncodedBatch:
        """Encode a batch of preprocessed images."""

    @property
    def min_side(self) -> int:
        """Pixels of an image's shorter side that are enough for `preprocess`; 0 where it takes all of them."""


@dataclass(frozen=True)
class Preprocessor:
    """Preprocessing for encoders: (side, mean, deviation) for each of them, and what regions need beside that.

    Attributes:
        windows: Of each encoder; the first one's regions are made.
        with_tiles: Tiles of the image are encoded.
        with_objects: Objects are looked for on the image.
    """

    windows: tuple[tuple[int, tuple[float, ...], tuple[float, ...]], ...]
    with_tiles: bool = False
    with_objects: bool = False

    def __call__(self, image: Image.Image, objects: Sequence[Object] = (), /) -> Any:
        """A tensor for each encoder, then the tiles' tensor or (reduced image, its known objects) for regions."""
        from foir.encoders.base import preprocess

        tensors = tuple(preprocess(image, *window) for window in self.windows)
        if self.with_tiles:
            from torch import stack

            from foir.regions.views import cut_tiles

            return (*tensors, stack([preprocess(tile, *self.windows[0]) for tile in cut_tiles(image)]))
        return (*tensors, _reduce(image, objects)) if self.with_objects else tensors


class LoadedEncoders:
    """Encoders of the registry. Spaces with the same encoder share its work."""

    def __init__(self, encoders: Mapping[str, Encoder], recipe: RegionRecipe | None = None) -> None:
        """Prepare encoding.

        Args:
            encoders: By space, `image` first.
            recipe: How regions are made with the encoder of `image`; None for no regions.
        """
        self.encoders = encoders
        self.unique = list({id(encoder): encoder for encoder in encoders.values()}.values())
        self.regions, self.region_recipe = None, ""
        with_tiles = with_objects = False
        if recipe is not None:
            from foir.regions.encoder import RegionEncoder

            self.regions, self.region_recipe = RegionEncoder(encoders["image"], recipe), recipe.to_json()
            with_tiles, with_objects = recipe.views == "tiles", recipe.needs_objects
        self.preprocess = Preprocessor(tuple((e.size, e.mean, e.std) for e in self.unique), with_tiles, with_objects)
        features = [tuple(encoder.reference_feature().tolist()) for encoder in self.unique]
        self.records = {
            name: EncoderRecord(
                encoder.name,
                encoder.revision,
                features[self.unique.index(encoder)],
                str(encoder.dtype).removeprefix("torch."),
            )
            for name, encoder in encoders.items()
        }

    @property
    def min_side(self) -> int:
        """See `SpaceEncoders.min_side`."""
        if self.preprocess.with_tiles or self.preprocess.with_objects:
            return 0
        return DECODED * max(encoder.size for encoder in self.unique)

    def for_regions_of(self, index: Index) -> LoadedEncoders:
        """The same encoders, which make regions as an index has them.

        Raises:
            BadIndex: They cannot be made as they were.
        """
        from foir.regions.recipe import RegionRecipe

        stored = "" if index.regions is None else index.regions.recipe
        if self.region_recipe == stored:
            return self
        if index.regions is None:
            return LoadedEncoders(self.encoders)
        from foir.regions.encoder import check_repeatable

        recipe = RegionRecipe.from_json(stored, len(index.space().reference_feature))
        check_repeatable(recipe, self.encoders["image"])
        return LoadedEncoders(self.encoders, recipe)

    def encode(self, inputs: Sequence[Any]) -> EncodedBatch:
        """Encode a batch; see `SpaceEncoders.encode`."""
        from torch import stack

        prefixes = [encoder.prefix(stack([each[i] for each in inputs])) for i, encoder in enumerate(self.unique)]
        features = [encoder.finish(prefix) for encoder, prefix in zip(self.unique, prefixes, strict=True)]
        vectors = [_to_numpy(each.vectors) for each in features]
        by_space = {name: vectors[self.unique.index(encoder)] for name, encoder in self.encoders.items()}
        image = features[0]
        regions: Sequence[PictureRegions] = ()
        if self.regions is not None:
            tiles = stack([each[-1] for each in inputs]) if self.preprocess.with_tiles else None
            objects = [each[-1] for each in inputs] if self.preprocess.with_objects else ()
            regions = self.regions.encode(prefixes[0], tiles, objects)
        return EncodedBatch(by_space, _to_numpy(image.z), _to_numpy(image.residual), regions)


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
    encoder: str, text: str | None, recipe: RegionRecipe | None, *, revision: str | None, device: str, dtype: str
) -> LoadedEncoders:
    """Load the encoders of a new index.

    Args:
        encoder: Registry name for the `image` space.
        text: The model of the `text` space, for text queries; None takes `encoder` if it has a text tower.
        recipe: How regions are made; None for none.
        revision: Of the encoder's weights.
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16", "float16" or "auto".

    Raises:
        Unavailable: A model cannot be loaded or encodes no text, or the encoder cannot be prompted.
        BadPrompt: The way of making regions is unknown.
    """
    from foir import encoders, image_text

    if not encoders.encoder_spec(encoder).promptable:
        raise Unavailable(f"{encoder} has no CLS token, so prompts cannot steer it: use another encoder.")
    loaded = {"image": encoders.load(encoder, revision=revision, device=device, dtype=dtype)}
    text_models = image_text.encoder_models()
    text = text or (encoder if encoder in text_models else None)
    if text is not None:
        if text not in text_models:
            raise Unavailable(f"{text} encodes no text for an index; these models do: {', '.join(text_models)}.")
        loaded["text"] = loaded["image"] if text == encoder else encoders.load(text, device=device, dtype=dtype)
    if recipe is not None:
        from foir.regions.encoder import complete

        recipe = complete(recipe, loaded["image"])
    return LoadedEncoders(loaded, recipe)


def load_index_encoders(index: Index, *, device: str, dtype: str) -> LoadedEncoders:
    """Load the encoders that an index was made with.

    Raises:
        Unavailable: A model cannot be loaded.
        BadIndex: One gives other features than when the index was made, or its regions cannot be made again.
    """
    from foir.search.encoder_check import check_encoder, load_encoder

    if unknown := index.spaces.keys() - {"image", "text"}:
        raise BadIndex(f"The index has vectors that this foir does not make ({min(unknown)}): build it again.")
    loaded: dict[tuple[str, str], Encoder] = {}
    for space in index.spaces.values():
        if (space.encoder, space.revision) not in loaded:
            encoder = load_encoder(space, device, dtype)
            check_encoder(encoder, space, index)
            loaded[space.encoder, space.revision] = encoder
    by_space = {name: loaded[index.spaces[name].encoder, index.spaces[name].revision] for name in sorted(index.spaces)}
    return LoadedEncoders(by_space).for_regions_of(index)
