"""Class-agnostic object detection: the region proposals of `mini`, or OWLv2 with SAM for all other encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from foir import hub, segment
from foir.encoders.base import Encoder
from foir.pretrained import load_pretrained
from foir.segment.regions import RegionProposer
from foir.small_objects.crops import DetectedObject

OWL = "google/owlv2-base-patch16-ensemble"
MIN_OBJECTNESS = 0.2  # of a box (MaO paper)
MAX_IOU = 0.4  # between two boxes
MAX_BOXES = 100  # of an image


class Detector(Protocol):
    """Detects the objects of an image."""

    @property
    def name(self) -> str:
        """Name of the detector and revision of its weights."""

    def __call__(self, image: Image.Image) -> Sequence[DetectedObject]:
        """The objects on an RGB image, best first; perhaps none."""


class RegionDetector:
    """The region proposals of `mini`, which need no other model."""

    def __init__(self, encoder: Encoder) -> None:
        """Load the region rules.

        Raises:
            Unavailable: The encoder is not `mini`.
        """
        self.propose = RegionProposer(encoder)
        self.name = f"{encoder.name}-regions@{self.propose.digest}"

    def __call__(self, image: Image.Image) -> list[DetectedObject]:
        """See `Detector`."""
        return [DetectedObject(region.box, region.mask) for region in self.propose(image).top()]


class OwlDetector:
    """OWLv2 by its objectness, without text queries; masks from SAM, if given."""

    def __init__(self, model: Any, processor: Any, sam: Any = None, *, revision: str = "random") -> None:
        """Wrap a transformers Owlv2ForObjectDetection and its image processor; without a `Sam` there are no masks."""
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
        # Boxes are shares of the image padded to a square at its right and lower side.
        boxes = max(image.size) * np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        boxes = np.clip(boxes, 0, [*image.size, *image.size]).astype(float)
        valid = np.flatnonzero((scores > MIN_OBJECTNESS) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1))
        from torchvision.ops import nms  # seconds, which only detection needs

        kept = nms(torch.from_numpy(boxes[valid]), torch.from_numpy(scores[valid]).double(), MAX_IOU)[:MAX_BOXES]
        objects = [DetectedObject((x0, y0, x1, y1)) for x0, y0, x1, y1 in boxes[valid[kept.numpy()]].tolist()]
        if self.sam is None or not objects:
            return objects
        masks = self.sam.boxes(self.sam.encode_image(image), [item.box for item in objects])
        pairs = zip(objects, masks, strict=True)
        return [DetectedObject(item.box, mask if mask.any() else None) for item, mask in pairs]


def detector_name(encoder: Encoder) -> str:
    """Name of the detector for an encoder, known before the detector is loaded.

    Raises:
        Unavailable: See `RegionDetector`.
    """
    return RegionDetector(encoder).name if encoder.name == "mini" else OWL


def load(encoder: Encoder) -> Detector:
    """Load the detector for an encoder: its own regions for `mini`, OWLv2 with SAM for all others.

    Raises:
        Unavailable: Weights are neither cached nor reachable.
    """
    if encoder.name == "mini":
        return RegionDetector(encoder)
    from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessor

    folder, commit = hub.download_weights(OWL)
    model = load_pretrained(Owlv2ForObjectDetection, folder)
    sam = segment.load_sam(encoder.device)
    return OwlDetector(model.to(encoder.device), Owlv2ImageProcessor.from_pretrained(folder), sam, revision=commit)
