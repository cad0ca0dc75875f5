"""The vectors that represent scenes of many objects, and where their objects come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foir import segment
from foir.encoders.base import Encoder
from foir.patches import rasterise
from foir.prompts import Prompt
from foir.segment.regions import RegionProposer
from foir.small_objects.crops import DetectedObject
from foir.small_objects.detect import Detector

from ..datasets.base import InstanceDataset, Scene
from .representations import REPRESENTATIONS, cache_key
from .results_cache import ResultsCache
from .specs import Row

CHUNK = 16  # scenes; a killed run loses at most one chunk
ROW_OPTIONS = ("boxes", "trained")  # options that representations do not know


@dataclass(frozen=True, eq=False)
class BoxMasks:
    """Makes masks of annotated boxes.

    Attributes:
        name: Name of the segmenter and revision of its weights.
        segmenter: Finds the object in a box.
        grid: Rows and columns of patches, in which the segmenter takes its prompts.
    """

    name: str
    segmenter: segment.Segmenter
    grid: tuple[int, int]

    @classmethod
    def load(cls, encoder: Encoder) -> BoxMasks:
        """SAM, as in the paper; for `mini`, which needs no other model, its own regions.

        Raises:
            Unavailable: The weights of SAM are neither cached nor reachable.
        """
        if encoder.name == "mini":
            regions = RegionProposer(encoder)
            return cls(f"regions@{regions.digest}", regions.outline, encoder.grid)
        sam = segment.load_sam(encoder.device)
        return cls(sam.name, sam.outline, encoder.grid)

    def __call__(self, image: Image.Image, objects: Sequence[DetectedObject]) -> list[DetectedObject]:
        """The objects with masks; those that have one keep it."""
        outline = self.segmenter(image)
        masked = []
        for item in objects:
            mask = item.mask
            if mask is None:
                prompt = Prompt.box(*item.box).fit(image.size)
                mask = outline(prompt, rasterise(prompt, image.size, self.grid))
            masked.append(DetectedObject(item.box, mask))
        return masked


@dataclass(frozen=True, eq=False)
class ObjectSources:
    """Where the objects of scenes come from.

    Attributes:
        detector: Finds "detected" boxes.
        masks: Makes masks of "annotated" boxes, where the data set has none.
    """

    detector: Detector | None = None
    masks: BoxMasks | None = None

    def name(self, boxes: str) -> str:
        """The models behind the objects of "annotated" or "detected" boxes; "" for none."""
        source = {"annotated": self.masks, "detected": self.detector}.get(boxes)
        return "" if source is None else source.name

    def objects(self, boxes: str, scene: Scene, image: Image.Image) -> Sequence[DetectedObject]:
        """The objects of a scene; none where its representation needs none."""
        if boxes == "annotated":
            return scene.objects() if self.masks is None else self.masks(image, scene.objects())
        return self.detector(image) if boxes == "detected" and self.detector is not None else ()


@dataclass(frozen=True, eq=False)
class SceneVectors:
    """The vectors of all scenes.

    Attributes:
        vectors: [n, dim].
        owner: Scene of each vector, [n].
        objects: Number of objects of each scene, [scenes].
    """

    vectors: np.ndarray
    owner: np.ndarray
    objects: np.ndarray

    @classmethod
    def join(cls, chunks: Sequence[Mapping[str, np.ndarray]]) -> SceneVectors:
        """The vectors of consecutive chunks of scenes; "counts" is the number of vectors of each scene."""
        vectors, counts, objects = (
            np.concatenate([chunk[name] for chunk in chunks]) for name in ("vectors", "counts", "objects")
        )
        return cls(vectors, np.repeat(np.arange(len(counts)), counts), objects)


def scene_vectors(
    data: InstanceDataset, encoder: Encoder, sources: ObjectSources, rows: Sequence[Row], cache: ResultsCache
) -> dict[Row, SceneVectors]:
    """The vectors that represent the scenes, by row; rows share loaded images and detected objects."""
    key = [data.name, data.digest, encoder.name, encoder.revision, str(encoder.dtype)]
    chunks: dict[Row, list[dict[str, np.ndarray]]] = {row: [] for row in rows}
    for start in tqdm(range(0, len(data.scenes), CHUNK), unit="chunk", desc="scenes"):
        chunk = _Chunk(data.scenes[start : start + CHUNK], sources)
        for row in rows:
            boxes = row.options.get("boxes", "")
            options = {name: value for name, value in row.options.items() if name not in ROW_OPTIONS}
            row_key = [*key, start, row.method, cache_key(row.method, options), boxes, sources.name(boxes)]
            chunks[row].append(cache.get(row_key, partial(chunk.vectors, encoder, row.method, boxes, options)))
    return {row: SceneVectors.join(parts) for row, parts in chunks.items()}


@dataclass
class _Chunk:
    """Scenes whose images are loaded, and whose objects are detected, at most once."""

    scenes: Sequence[Scene]
    sources: ObjectSources
    _images: list[Image.Image] = field(default_factory=list)
    _objects: dict[str, list[Sequence[DetectedObject]]] = field(default_factory=dict)

    def vectors(self, encoder: Encoder, method: str, boxes: str, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The vectors of all scenes, how many each has, and how many objects."""
        if not self._images:
            self._images = [scene.load() for scene in self.scenes]
        objects = self._scene_objects(boxes)
        scenes = list(zip(self._images, objects, strict=True))
        vectors = REPRESENTATIONS[method](encoder, scenes, options)
        counts = np.array([len(scene) for scene in vectors])
        return {
            "vectors": np.concatenate([scene.float().cpu().numpy() for scene in vectors]),
            "counts": counts,
            "objects": np.array([len(items) for items in objects]),
        }

    def _scene_objects(self, boxes: str) -> list[Sequence[DetectedObject]]:
        if boxes not in self._objects:
            pairs = zip(self.scenes, self._images, strict=True)
            self._objects[boxes] = [self.sources.objects(boxes, scene, image) for scene, image in pairs]
        return self._objects[boxes]
