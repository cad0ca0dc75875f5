"""The kinds of data sets, their registry, and how their files are opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foir import image_formats, images
from foir.errors import BadImage, Unavailable
from foir.prompts import Box, Prompt
from foir.small_objects.crops import DetectedObject

ImageLoader = Callable[[], Image.Image]  # returns an RGB image
Boxes = tuple[Box, ...]  # (x0, y0, x1, y1) in pixels
CaptionedImages = tuple[tuple[ImageLoader, ...], tuple[tuple[str, ...], ...]]  # images, and the captions of each


@dataclass(frozen=True, eq=False)
class Query:
    """One prompted object.

    Attributes:
        image: Row of the data set's `query_images`.
        prompt: The box around the object.
        category: Column of the data set's `labels`.
        mask: Returns the object's mask, bool [H, W], or raises BadPrompt where its annotation is damaged; None where it
            has none.
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
        source: Digest of the annotation file, where it holds more than boxes and categories (outlines).
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
    source: str = ""
    orientation: str = ""

    @property
    def sizes(self) -> dict[str, int]:
        """What the data set counts, by the names of the published facts."""
        return {
            "n_query_images": len(self.query_images), "n_db_images": len(self.gallery),
            "n_categories": len(self.categories),
        }  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """Digest of the annotations."""
        queries = [(q.image, q.prompt.boxes, q.prompt.points, q.category) for q in self.queries]
        facts = repr((queries, self.categories, self.labels.shape, self.leave_one_out, self.source)).encode()
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
    def sizes(self) -> dict[str, int]:
        """See `Dataset.sizes`."""
        return {"n_images": len(self.images), "n_captions": len(self.texts)}

    @cached_property
    def digest(self) -> str:
        """Digest of captions and boxes."""
        facts = repr((self.captions, sorted(self.boxes.items()), self.size_boxes, self.detector)).encode()
        return hashlib.sha256(facts).hexdigest()[:16]

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

    @property
    def sizes(self) -> dict[str, int]:
        """See `Dataset.sizes`."""
        return {"n_images": len(self.images), "n_classes": len(self.class_names)}

    @cached_property
    def digest(self) -> str:
        """Digest of the labels."""
        return hashlib.sha256(repr(self.class_names).encode() + self.labels.tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Scene:
    """A gallery image with several instances.

    Attributes:
        load: Returns the image.
        objects: Returns its annotated objects.
        areas: The instances on it: the share of the image that each covers, None where it is not annotated.
        count: Number of annotated objects, instances among them.
        source: What `objects` depends on, such as the boxes, or the digest of a file of masks.
    """

    load: ImageLoader
    objects: Callable[[], tuple[DetectedObject, ...]]
    areas: Mapping[str, float | None]
    count: int
    source: str = ""


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
        oddities: What is odd about its annotations, and how often; all of it is left out.
        has_masks: Whether the annotated objects have masks beside their boxes.
    """

    name: str
    scenes: tuple[Scene, ...]
    queries: tuple[InstanceQuery, ...]
    oddities: Mapping[str, int] = field(default_factory=dict)
    has_masks: bool = True

    @property
    def sizes(self) -> dict[str, int]:
        """See `Dataset.sizes`."""
        instances = len({query.instance for query in self.queries})
        return {"n_query": len(self.queries), "n_gallery": len(self.scenes), "test instances": instances}

    @cached_property
    def digest(self) -> str:
        """Digest of the gallery's annotations."""
        facts = repr([(sorted(scene.areas.items()), scene.count, scene.source) for scene in self.scenes]).encode()
        return hashlib.sha256(facts).hexdigest()[:16]


_INVERSE = {6: 8, 8: 6}  # the EXIF orientation that turns an upright image back; the others undo themselves


def image_file(path: Path, size: tuple[int, int] | None = None) -> ImageLoader:
    """A loader of an image file as it is stored: annotations count its pixels, whatever way EXIF turns them.

    Args:
        path: The file.
        size: The width and height that the annotations state; the image is turned upright where only that fits them.
    """
    return partial(read_stored, path, size, str(path))


def read_stored(source: Path | bytes, size: tuple[int, int] | None, name: str) -> Image.Image:
    """Read an image as it is stored; see `image_file`.

    Raises:
        Unavailable: It is damaged; the message calls it `name`.
    """
    try:
        photo = images.read(source)
    except BadImage as error:
        raise Unavailable(f"{error} Put {name} back and run the same again: finished parts are kept.") from error
    stored = images.upright(photo.image, _INVERSE.get(photo.orientation, photo.orientation))
    return photo.image if size == photo.size != stored.size else stored


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is stored; only its header is read.

    Raises:
        Unavailable: It is damaged.
    """
    try:
        with Image.open(path, formats=image_formats.BUILT_IN) as image:
            return image.size
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise Unavailable(f"The image {path} is damaged: restore it.") from error


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
