"""The kinds of data sets, their registry, and how their files are opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from foir import images
from foir.errors import Unavailable
from foir.prompts import Box, Prompt
from foir.small_objects.crops import DetectedObject

ImageLoader = Callable[[], Image.Image]  # returns an upright RGB image
Boxes = tuple[Box, ...]  # (x0, y0, x1, y1) in pixels
CaptionedImages = tuple[tuple[ImageLoader, ...], tuple[tuple[str, ...], ...]]  # images, and the captions of each


@dataclass(frozen=True, eq=False)
class Query:
    """One prompted object.

    Attributes:
        image: Row of the data set's `query_images`.
        prompt: The box around the object.
        category: Column of the data set's `labels`.
        mask: Returns the object's mask, bool [H, W]; None where the data set has no masks.
    """

    image: int
    prompt: Prompt
    category: int
    mask: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A gallery and the prompted queries on it.

    Attributes:
        name: Registry name.
        gallery: Loaders of the gallery's images.
        labels: bool [gallery, categories]: the categories that each image contains.
        queries: Prompted objects.
        query_images: Loaders of the queries' images.
        categories: Names of the categories.
        leave_one_out: The query images are the gallery, and each is left out of its own results.
        shared_gallery: Name of the data set with the same gallery images, whose cached features serve this one too.
        sentences: A sentence that describes each query image; empty where there are none.
        category_words: Everyday names of what is in each category; the category's name if left out.
        note: What a reader of its numbers must know.
        orientation: A paper's data set of the same classes. Its numbers are shown for orientation: the order of the
            methods can be compared, their values cannot.
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
    note: str = ""
    orientation: str = ""

    @cached_property
    def digest(self) -> str:
        """Digest of the annotations."""
        queries = [(q.image, q.prompt.boxes, q.prompt.points, q.category) for q in self.queries]
        facts = repr((queries, self.categories, self.labels.shape, self.leave_one_out)).encode()
        return hashlib.sha256(facts + self.labels.tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class CaptionedDataset:
    """Images with captions.

    Attributes:
        name: Registry name.
        images: Loaders of the images.
        captions: At least one caption of each image.
        training: Returns images and captions that a model may have been trained on; for baselines.
        boxes: The boxes of the objects on each image, by source: "annotated" or "detected".
        size_boxes: The source of `boxes` that defines the size of an image's largest object.
        detector: What found the "detected" boxes.
    """

    name: str
    images: tuple[ImageLoader, ...]
    captions: tuple[tuple[str, ...], ...]
    training: Callable[[], CaptionedImages] | None = None
    boxes: Mapping[str, tuple[Boxes, ...]] = field(default_factory=dict)
    size_boxes: str = "annotated"
    detector: str = ""

    @property
    def texts(self) -> list[str]:
        """All captions, those of the first image first."""
        return [text for captions in self.captions for text in captions]

    @property
    def text_images(self) -> np.ndarray:
        """The image of each of `texts`, int [texts]."""
        return np.repeat(np.arange(len(self.images)), [len(captions) for captions in self.captions])


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Images with one class each.

    Attributes:
        name: Registry name.
        images: Loaders of the images.
        labels: Class of each image, int [n].
        class_names: Names of the classes.
    """

    name: str
    images: tuple[ImageLoader, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """A gallery image with several instances.

    Attributes:
        load: Returns the image.
        objects: Returns its annotated objects.
        areas: The instances on it: the share of the image that each covers, None where it is not annotated.
        count: Number of annotated objects, instances among them.
    """

    load: ImageLoader
    objects: Callable[[], tuple[DetectedObject, ...]]
    areas: Mapping[str, float | None]
    count: int


@dataclass(frozen=True, eq=False)
class InstanceQuery:
    """The instance to find, and a loader of an image that shows it alone."""

    load: ImageLoader
    instance: str


@dataclass(frozen=True, eq=False)
class InstanceDataset:
    """Scenes and instances to find on them; a scene is relevant where it shows the instance.

    Attributes:
        name: Registry name.
        scenes: The gallery.
        queries: Each has at least one relevant scene.
        has_masks: Whether the annotated objects have masks beside their boxes.
    """

    name: str
    scenes: tuple[Scene, ...]
    queries: tuple[InstanceQuery, ...]
    has_masks: bool = True

    @cached_property
    def digest(self) -> str:
        """Digest of the gallery's annotations."""
        facts = repr([(sorted(scene.areas.items()), scene.count) for scene in self.scenes]).encode()
        return hashlib.sha256(facts).hexdigest()[:16]


@dataclass(frozen=True)
class Download:
    """Files of a data set that are fetched together.

    Attributes:
        files: What has to be there, under FOIR_DATA; patterns of `Path.glob`.
        source: The page or the command that gets them, in one sentence.
        rows: The rows of tables that need them; all where it is empty.
        repository: The data set repository on the Hub that holds them; then there are no `files`.
    """

    files: tuple[str, ...]
    source: str
    rows: str = ""
    repository: str = ""


@dataclass(frozen=True)
class Layout:
    """What a data set consists of.

    Attributes:
        downloads: Its files; none for one that is made here.
        sizes: Official numbers that no paper's table states: "gallery", "query images", "images", "boxes".
        count: Counts its images in the folder of its repository, where loading it would copy them.
    """

    downloads: tuple[Download, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    count: Callable[[Path], dict[str, int]] | None = None


_Kind = TypeVar("_Kind")
LOADERS: dict[str, tuple[type[Any], Callable[[], Any]]] = {}  # kind and loader of each data set
LAYOUTS: dict[str, Layout] = {}


def register(
    name: str, kind: type[_Kind], *downloads: Download, **facts: Any
) -> Callable[[Callable[[], _Kind]], Callable[[], _Kind]]:
    """Register a function that loads a data set.

    Args:
        name: Registry name.
        kind: `Dataset`, `CaptionedDataset`, `ClassificationDataset` or `InstanceDataset`.
        downloads: The files that it needs.
        facts: Other attributes of `Layout`.
    """

    def add(loader: Callable[[], _Kind]) -> Callable[[], _Kind]:
        LOADERS[name] = kind, loader
        LAYOUTS[name] = Layout(downloads, **facts)
        return loader

    return add


def image_file(path: Path) -> ImageLoader:
    """A loader of an image file."""
    return partial(_read_image, path)


def _read_image(path: Path) -> Image.Image:
    return images.read(path).image


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is stored; only its header is read."""
    with Image.open(path, formats=images.FORMATS) as image:
        return image.size


def require(path: Path, description: str) -> Path:
    """Return the path if it exists.

    Raises:
        Unavailable: It does not exist; the message says what to put there.
    """
    if not path.exists():
        raise Unavailable(
            f"{description} is not at {path}: put it there, or set FOIR_DATA to the folder that holds it."
        )
    return path


def read_json(path: Path, description: str) -> Any:
    """The content of a JSON file.

    Raises:
        Unavailable: It is missing or damaged; the message says what to put there.
    """
    try:
        return json.loads(require(path, description).read_text(encoding="utf-8"))
    except ValueError as error:
        raise Unavailable(f"{path} is damaged: restore it.") from error


def corners(box: Sequence[float]) -> Box:
    """A COCO box (x, y, width, height) as (x0, y0, x1, y1)."""
    x, y, width, height = box
    return x, y, x + width, y + height


def multi_hot(rows: Iterable[Iterable[int]], categories: int) -> np.ndarray:
    """Category numbers of each image as bool [images, categories]."""
    present_rows = [list(row) for row in rows]
    labels = np.zeros((len(present_rows), categories), bool)
    for row, present in enumerate(present_rows):
        labels[row, present] = True
    return labels
