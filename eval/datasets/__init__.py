"""Data sets by name. Each file turns one official layout into a `Dataset`; absent data is one sentence."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from foir import images
from foir.errors import Unavailable
from foir.prompts import Prompt
from foir.small_objects.crops import DetectedObject

_Set = TypeVar("_Set")
ImageLoader = Callable[[], Image.Image]  # gives an upright RGB picture
Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, eq=False)
class Query:
    """One pointed object: which picture, the box around it, what it is; its mask bool [H, W] where one is known."""

    image: int
    prompt: Prompt
    category: int
    mask: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A gallery and the pointed queries on it.

    Attributes:
        name: Registry name.
        gallery: Its pictures, each read when called.
        labels: bool [gallery, categories]: what each picture contains.
        queries: Pointed objects; `picture` is a row of `query_pictures`.
        query_pictures: The pictures of the queries.
        categories: Their names.
        leave_one_out: The query pictures are the gallery, and each is left out of its own results.
        shares: The data set with the very same gallery pictures, whose features serve this one too.
        said: What each query picture shows, in words, where that is known.
        kinds: The names that people have for what is in each category; its own name if left out.
    """

    name: str
    gallery: tuple[ImageLoader, ...]
    labels: np.ndarray
    queries: tuple[Query, ...]
    query_images: tuple[ImageLoader, ...]
    categories: tuple[str, ...]
    leave_one_out: bool = False
    shared_gallery: str = ""
    sentences: tuple[str, ...] = ()
    category_words: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def digest(self) -> str:
        """Tells one set of annotations from another."""
        queries = [(q.image, q.prompt.boxes, q.prompt.points, q.category) for q in self.queries]
        facts = repr((queries, self.categories, self.labels.shape, self.leave_one_out)).encode()
        return hashlib.sha256(facts + self.labels.tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class CaptionedDataset:
    """Pictures and what people said of each.

    Attributes:
        name: Registry name.
        pictures: Each read when called.
        captions: Of each picture, at least one.
        training: The same of the pictures that a model may have learnt from, read when called; for baselines.
        boxes: Of each picture the boxes (x0, y0, x1, y1) of the objects on it in pixels, "annotated" or "detected".
        binned: Which of the two says how large a picture's largest object is.
    """

    name: str
    images: tuple[ImageLoader, ...]
    captions: tuple[tuple[str, ...], ...]
    training: Callable[[], tuple[tuple[ImageLoader, ...], tuple[tuple[str, ...], ...]]] | None = None
    boxes: Mapping[str, tuple[Boxes, ...]] = field(default_factory=dict)
    size_boxes: str = "annotated"


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Pictures of which each has one class.

    Attributes:
        name: Registry name.
        pictures: Each read when called.
        classes: Class of each, int [n].
        names: What the classes are called.
    """

    name: str
    images: tuple[ImageLoader, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture of a gallery and the instances on it.

    Attributes:
        read: Gives the picture.
        things: Gives its annotated objects.
        instances: Which instances it holds.
        part: What a curve is drawn over ("size", "objects"), by name.
    """

    load: ImageLoader
    objects: Callable[[], tuple[DetectedObject, ...]]
    instances: frozenset[str]
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InstanceQuery:
    """An instance that is looked for, and a picture of it alone, cut out of where it was seen."""

    load: ImageLoader
    instance: str


@dataclass(frozen=True, eq=False)
class InstanceDataset:
    """Scenes, and instances to be found on them; a scene is right where it holds the instance.

    Attributes:
        name: Registry name.
        scenes: The gallery.
        queries: Each has at least one right scene.
    """

    name: str
    scenes: tuple[Scene, ...]
    queries: tuple[InstanceQuery, ...]

    @cached_property
    def digest(self) -> str:
        """Tells one gallery from another."""
        facts = repr([(sorted(scene.instances), sorted(scene.groups.items())) for scene in self.scenes]).encode()
        return hashlib.sha256(facts).hexdigest()[:16]


_instances: dict[str, Callable[[], InstanceDataset]] = {}
_classed: dict[str, Callable[[], ClassificationDataset]] = {}
_pointed: dict[str, Callable[[], Dataset]] = {}
_captioned: dict[str, Callable[[], CaptionedDataset]] = {}


def dataset(name: str) -> Callable[[Callable[[], Dataset]], Callable[[], Dataset]]:
    """Register a function that reads a data set of pointed queries."""

    def add(read: Callable[[], Dataset]) -> Callable[[], Dataset]:
        _pointed[name] = read
        return read

    return add


def captioned(name: str) -> Callable[[Callable[[], CaptionedDataset]], Callable[[], CaptionedDataset]]:
    """Register a function that reads a data set of pictures with captions."""

    def add(read: Callable[[], CaptionedDataset]) -> Callable[[], CaptionedDataset]:
        _captioned[name] = read
        return read

    return add


def classed(name: str) -> Callable[[Callable[[], ClassificationDataset]], Callable[[], ClassificationDataset]]:
    """Register a function that reads a data set of pictures with one class each."""

    def add(read: Callable[[], ClassificationDataset]) -> Callable[[], ClassificationDataset]:
        _classed[name] = read
        return read

    return add


def instances(name: str) -> Callable[[Callable[[], InstanceDataset]], Callable[[], InstanceDataset]]:
    """Register a function that reads a data set of instances on scenes."""

    def add(read: Callable[[], InstanceDataset]) -> Callable[[], InstanceDataset]:
        _instances[name] = read
        return read

    return add


@cache
def _load_all() -> None:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)


def names(kind: type) -> tuple[str, ...]:
    """The names of all data sets of a kind: `Dataset`, `CaptionedDataset`, `ClassificationDataset` or `InstanceDataset`."""
    _load_all()
    registers: dict[type, dict[str, Any]] = {
        Dataset: _pointed,
        CaptionedDataset: _captioned,
        ClassificationDataset: _classed,
        InstanceDataset: _instances,
    }
    return tuple(registers[kind])


def read(name: str) -> Dataset:
    """Read a data set of pointed queries.

    Raises:
        Unavailable: There is none of this name, or its files are absent.
    """
    _load_all()
    return _known(_pointed, name)()


def read_captioned(name: str) -> CaptionedDataset:
    """Read a data set of pictures with captions.

    Raises:
        Unavailable: There is none of this name, or its files are absent.
    """
    _load_all()
    return _known(_captioned, name)()


def read_classed(name: str) -> ClassificationDataset:
    """Read a data set of pictures with one class each.

    Raises:
        Unavailable: There is none of this name, or its files are absent.
    """
    _load_all()
    return _known(_classed, name)()


def read_instances(name: str) -> InstanceDataset:
    """Read a data set of instances on scenes.

    Raises:
        Unavailable: There is none of this name, or its files are absent.
    """
    _load_all()
    return _known(_instances, name)()


def _known(register: dict[str, Callable[[], _Set]], name: str) -> Callable[[], _Set]:
    if name not in register:
        raise Unavailable(f"There is no data set {name!r} for this; eval has {', '.join(register)}.")
    return register[name]


def image_file(path: Path) -> ImageLoader:
    """A picture in a file."""
    return lambda: images.read(path).image


def require(folder: Path, what: str) -> Path:
    """The folder, or an error that says what to put there.

    Raises:
        Unavailable: It is absent.
    """
    if not folder.exists():
        raise Unavailable(f"{what} is not at {folder}: put it there, or set FOIR_DATA to the folder that holds it.")
    return folder
