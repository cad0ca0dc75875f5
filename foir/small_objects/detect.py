"""Finding the objects of a picture, whatever they are: OWLv2 with SAM where weights are, regions of `mini` else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from foir import hub, segment
from foir.encoders.base import Encoder
from foir.segment.boxes import nms
from foir.segment.regions import RegionProposer
from foir.small_objects.crops import DetectedObject

OWL = "google/owlv2-base-patch16-ensemble"
OBJECT = 0.2  # objectness from which a box is kept (MaO spec, section 2)
APART = 0.4  # IoU
MOST = 100  # boxes of a picture


class Detector(Protocol):
    """Finds things on a picture."""

    @property
    def name(self) -> str:
        """What found them, with the revision of its weights."""

    def __call__(self, image: Image.Image) -> Sequence[DetectedObject]:
        """The things on an RGB picture, the surest first; perhaps none."""


class Proposals:
    """Regions of the encoder's own patches; nothing else is needed."""

    def __init__(self, encoder: Encoder) -> None:
        """Propose with `mini`.

        Raises:
            Unavailable: The encoder is another one.
        """
        self.grow = RegionProposer(encoder)
        self.name = f"{encoder.name}-regions@{self.grow.digest}"

    def __call__(self, image: Image.Image) -> list[DetectedObject]:
        """See `Detector`."""
        return [DetectedObject(region.box, region.mask) for region in self.grow(image).best()]


class Owl:
    """OWLv2 by its objectness alone, no words; masks from SAM, where it is there."""

    def __init__(self, model: Any, processor: Any, sam: Any = None, *, revision: str = "random") -> None:
        """Wrap a transformers Owlv2ForObjectDetection and its image processor; without a `Sam` things have no masks."""
        self.model, self.processor, self.sam = model.eval().requires_grad_(False), processor, sam
        self.name = f"owlv2@{revision}" + (f"+{sam.name}" if sam else "")

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[DetectedObject]:
        """See `Detector`."""
        pixels = self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        features, _ = self.model.image_embedder(pixels.to(self.model.device))
        flat = features.flatten(1, 2)
        scores = self.model.objectness_predictor(flat)[0].float().sigmoid().cpu().numpy()
        cx, cy, w, h = self.model.box_predictor(flat, features)[0].float().cpu().numpy().T
        # Boxes are shares of the picture padded to a square at its right and lower side.
        boxes = max(image.size) * np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        boxes = np.clip(boxes, 0, [*image.size, *image.size])
        sure = np.flatnonzero((scores > OBJECT) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1))
        kept = boxes[sure][nms(boxes[sure], scores[sure], APART)[:MOST]]
        things = [DetectedObject((x0, y0, x1, y1)) for x0, y0, x1, y1 in kept.tolist()]
        if self.sam is None or not things:
            return things
        masks = self.sam.boxes(self.sam.look(image), [thing.box for thing in things])
        return [
            DetectedObject(thing.box, mask if mask.any() else None) for thing, mask in zip(things, masks, strict=True)
        ]


def named(encoder: Encoder) -> str:
    """What finds the objects for an encoder, told before it is loaded.

    Raises:
        Unavailable: See `Proposals`.
    """
    return Proposals(encoder).name if encoder.name == "mini" else OWL


def load(encoder: Encoder) -> Detector:
    """The detector for an encoder: its own regions for `mini`, OWLv2 with SAM for all others.

    Raises:
        Unavailable: Weights are neither cached nor reachable.
    """
    if encoder.name == "mini":
        return Proposals(encoder)
    from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessor

    folder, commit = hub.download_weights(OWL)
    model: Any = Owlv2ForObjectDetection.from_pretrained(folder)
    model = model.to(encoder.device)
    return Owl(model, Owlv2ImageProcessor.from_pretrained(folder), segment.load_sam(encoder.device), revision=commit)
