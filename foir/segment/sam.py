"""Segment Anything: a point or a box to a mask, through transformers or a checkpoint of segment-anything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foir import hub
from foir.errors import Unavailable
from foir.patches import PatchMask
from foir.pretrained import copy_tensors, load_pretrained
from foir.prompts import Box, Prompt, bounds
from foir.segment.outline import Outline, click_points

BATCH = 8  # boxes decoded at once; each mask is as large as the image
VARIANTS = ("vit_h", "vit_l", "vit_b")  # in the names of segment-anything's checkpoints: sam_vit_b_01ec64.pth


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An encoded image: its embedding, its size (width, height), and the size it was resized to."""

    embedding: Tensor
    size: tuple[int, int]
    resized: tuple[int, int]


class Sam(ABC):
    """The model. It holds no image, so that threads can share it."""

    name: str
    model: Any

    @abstractmethod
    def encode_image(self, image: Image.Image) -> ImageEmbedding:
        """Run the image encoder on an RGB image."""

    @abstractmethod
    def _decode(self, image: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mask logits on the image [n, m, H, W] and their scores [n, m], from points [n, p, 2] or boxes [n, 4]."""

    @torch.inference_mode()
    def boxes(self, image: ImageEmbedding, boxes: Sequence[Box]) -> list[np.ndarray]:
        """One mask, bool [H, W], for each box in pixels of the image."""
        masks: list[np.ndarray] = []
        for start in range(0, len(boxes), BATCH):
            logits, _ = self._decode(image, None, self._scale(image, boxes[start : start + BATCH]))
            masks += list((logits[:, 0] > 0).cpu().numpy())
        return masks

    @torch.inference_mode()
    def points(self, image: ImageEmbedding, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """The best mask for some points on one object, bool [H, W]."""
        logits, scores = self._decode(image, self._scale(image, [points]), None)
        mask: np.ndarray = (logits[0, int(scores[0].argmax())] > 0).cpu().numpy()
        return mask

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`."""
        encoded = self.encode_image(image)

        def outline(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            points = click_points(prompt, image.size)
            if prompt.boxes or not points:
                (pixels,) = self.boxes(encoded, [bounds(mask.pixels)])
            else:
                pixels = self.points(encoded, points)
            return pixels if pixels.any() else mask.pixels

        return outline

    def _scale(self, image: ImageEmbedding, coordinates: Sequence[Any]) -> Tensor:
        """From pixels of the image to pixels of the model's input; the last axis is x, y or x, y, x, y."""
        values = torch.tensor(coordinates, dtype=torch.float32)
        scale = torch.tensor([resized / length for resized, length in zip(image.resized, image.size, strict=True)])
        return (values.view(*values.shape[:-1], -1, 2) * scale).flatten(-2).to(self.model.device)


class CheckpointSam(Sam):
    """A model of segment-anything."""

    def __init__(self, model: Any, name: str) -> None:
        """Wrap a segment_anything Sam."""
        self.model, self.name = model.eval().requires_grad_(False), name

    @torch.inference_mode()
    def encode_image(self, image: Image.Image) -> ImageEmbedding:
        """See `Sam`."""
        from segment_anything.utils.transforms import ResizeLongestSide

        resized = ResizeLongestSide(self.model.image_encoder.img_size).apply_image(np.asarray(image.convert("RGB")))
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].to(self.model.device)
        embedding = self.model.image_encoder(self.model.preprocess(pixels))
        return ImageEmbedding(embedding, image.size, (resized.shape[1], resized.shape[0]))

    def _decode(self, image: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        labelled = None if points is None else (points, torch.ones(points.shape[:2], device=points.device))
        sparse, dense = self.model.prompt_encoder(labelled, boxes, None)
        logits, scores = self.model.mask_decoder(
            image_embeddings=image.embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=boxes is None,
        )
        return self.model.postprocess_masks(logits, image.resized[::-1], image.size[::-1]), scores


class TransformersSam(Sam):
    """A model of transformers."""

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        """Wrap a SamModel and its image processor."""
        self.model, self.processor, self.name = model.eval().requires_grad_(False), processor, name

    @torch.inference_mode()
    def encode_image(self, image: Image.Image) -> ImageEmbedding:
        """See `Sam`."""
        inputs = self.processor(images=image.convert("RGB"), return_tensors="pt")
        height, width = (int(length) for length in inputs["reshaped_input_sizes"][0])
        embedding = self.model.get_image_embeddings(inputs["pixel_values"].to(self.model.device))
        return ImageEmbedding(embedding, image.size, (width, height))

    def _decode(self, image: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        output = self.model(
            image_embeddings=image.embedding,
            input_points=None if points is None else points[None],
            input_boxes=None if boxes is None else boxes[None],
            multimask_output=boxes is None,
        )
        sizes = [image.size[::-1]], [image.resized[::-1]]
        (logits,) = self.processor.post_process_masks(output.pred_masks, *sizes, binarize=False)
        return logits, output.iou_scores[0]


def load(weights: str, device: str) -> Sam:
    """Load SAM from a checkpoint file or a repository on the Hub.

    Raises:
        Unavailable: The weights are missing, or not SAM's.
    """
    path = Path(weights)
    if path.suffix in (".pth", ".pt"):
        return _load_checkpoint(path, device)
    from transformers import SamImageProcessor, SamModel

    folder, commit = hub.download_weights(weights)
    model = load_pretrained(SamModel, folder)
    return TransformersSam(model.to(device), SamImageProcessor.from_pretrained(folder), f"{weights}@{commit}")


def _load_checkpoint(path: Path, device: str) -> Sam:
    from segment_anything import sam_model_registry

    variant = next((variant for variant in VARIANTS if variant in path.name), None)
    if variant is None:
        raise Unavailable(f"The name of {path} does not say which SAM it is: {', '.join(VARIANTS)}.")
    failure, model = f"{path} is not a checkpoint of SAM {variant}", sam_model_registry[variant]()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        copy_tensors(model.state_dict(), state, failure, "set FOIR_SAM to one")
    except Unavailable:
        raise
    except Exception as error:  # a damaged pickle fails in a dozen ways, another one holds no tensors
        raise Unavailable(f"{failure}: set FOIR_SAM to one.") from error
    return CheckpointSam(model.to(device), path.stem)
