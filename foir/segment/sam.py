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
from foir.prompts import Box, Prompt, bounds
from foir.segment import Outline, click_points

TOGETHER = 8  # boxes whose masks are made at once; each is as large as the picture
KINDS = ("vit_h", "vit_l", "vit_b")  # as segment-anything's checkpoints are called: sam_vit_b_01ec64.pth


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """A picture behind the image encoder: its embedding, its size (width, height), and the size it was resized to."""

    embedding: Tensor
    size: tuple[int, int]
    inner: tuple[int, int]


class Sam(ABC):
    """The model; holds no picture, so that many people can share it."""

    name: str

    @abstractmethod
    def look(self, image: Image.Image) -> ImageEmbedding:
        """Run the image encoder on an RGB picture."""

    @abstractmethod
    def _decoded(self, looked: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mask logits on the picture [n, m, H, W] and their scores [n, m], from points [n, p, 2] or boxes [n, 4]."""

    @torch.inference_mode()
    def boxes(self, looked: ImageEmbedding, boxes: Sequence[Box]) -> list[np.ndarray]:
        """One mask, bool [H, W], for each box in pixels of the picture."""
        found: list[np.ndarray] = []
        for start in range(0, len(boxes), TOGETHER):
            logits, _ = self._decoded(looked, None, self._inside(looked, boxes[start : start + TOGETHER]))
            found += list((logits[:, 0] > 0).cpu().numpy())
        return found

    @torch.inference_mode()
    def points(self, looked: ImageEmbedding, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """The best of the masks around some points, bool [H, W]."""
        logits, scores = self._decoded(looked, self._inside(looked, [points]), None)
        mask: np.ndarray = (logits[0, int(scores[0].argmax())] > 0).cpu().numpy()
        return mask

    def outline(self, image: Image.Image) -> Outline:
        """See `foir.segment.Segmenter`."""
        looked = self.look(image)

        def pointed(prompt: Prompt, mask: PatchMask) -> np.ndarray:
            said = click_points(prompt, image.size)
            if prompt.boxes or not said:
                (found,) = self.boxes(looked, [bounds(mask.pixels)])
            else:
                found = self.points(looked, said)
            return found if found.any() else mask.pixels

        return pointed

    def _inside(self, looked: ImageEmbedding, places: Sequence[Any]) -> Tensor:
        """Places in pixels of the picture, as pixels of what the model sees; the last axis is x, y or x, y, x, y."""
        made = torch.tensor(places, dtype=torch.float32)
        scale = torch.tensor([inner / outer for inner, outer in zip(looked.inner, looked.size, strict=True)])
        return (made.view(*made.shape[:-1], -1, 2) * scale).flatten(-2)


class Checkpoint(Sam):
    """A model of segment-anything."""

    def __init__(self, model: Any, name: str) -> None:
        """Wrap a segment_anything Sam."""
        self.model, self.name = model.eval().requires_grad_(False), name

    @torch.inference_mode()
    def look(self, image: Image.Image) -> ImageEmbedding:
        """See `Sam`."""
        from segment_anything.utils.transforms import ResizeLongestSide

        resized = ResizeLongestSide(self.model.image_encoder.img_size).apply_image(np.asarray(image.convert("RGB")))
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].to(self.model.device)
        embedding = self.model.image_encoder(self.model.preprocess(pixels))
        return ImageEmbedding(embedding, image.size, (resized.shape[1], resized.shape[0]))

    def _decoded(self, looked: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        device = self.model.device
        labelled = None if points is None else (points.to(device), torch.ones(points.shape[:2], device=device))
        sparse, dense = self.model.prompt_encoder(labelled, None if boxes is None else boxes.to(device), None)
        logits, scores = self.model.mask_decoder(
            image_embeddings=looked.embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=boxes is None,
        )
        return self.model.postprocess_masks(logits, looked.inner[::-1], looked.size[::-1]), scores


class Transformed(Sam):
    """A model of transformers."""

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        """Wrap a SamModel and its image processor."""
        self.model, self.processor, self.name = model.eval().requires_grad_(False), processor, name

    @torch.inference_mode()
    def look(self, image: Image.Image) -> ImageEmbedding:
        """See `Sam`."""
        made = self.processor(images=image.convert("RGB"), return_tensors="pt")
        height, width = (int(length) for length in made["reshaped_input_sizes"][0])
        embedding = self.model.get_image_embeddings(made["pixel_values"].to(self.model.device))
        return ImageEmbedding(embedding, image.size, (width, height))

    def _decoded(self, looked: ImageEmbedding, points: Tensor | None, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        made = self.model(
            image_embeddings=looked.embedding,
            input_points=None if points is None else points[None].to(self.model.device),
            input_boxes=None if boxes is None else boxes[None].to(self.model.device),
            multimask_output=boxes is None,
        )
        sizes = [looked.size[::-1]], [looked.inner[::-1]]
        (logits,) = self.processor.post_process_masks(made.pred_masks, *sizes, binarize=False)
        return logits, made.iou_scores[0]


def load(weights: str, device: str) -> Sam:
    """Load SAM from a checkpoint file or a repository on the Hub.

    Raises:
        Unavailable: It is not there, or not SAM's.
    """
    path = Path(weights)
    if path.suffix in (".pth", ".pt"):
        return _checkpoint(path, device)
    from transformers import SamImageProcessor, SamModel

    folder, commit = hub.download_weights(weights)
    model: Any = SamModel.from_pretrained(folder)
    return Transformed(model.to(device), SamImageProcessor.from_pretrained(folder), f"{weights}@{commit}")


def _checkpoint(path: Path, device: str) -> Sam:
    from segment_anything import sam_model_registry

    kind = next((kind for kind in KINDS if kind in path.name), None)
    if kind is None:
        raise Unavailable(f"The name of {path} does not say which SAM it is: {', '.join(KINDS)}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model = sam_model_registry[kind]()
        model.load_state_dict(state)
    except Exception as error:  # a damaged pickle fails in a dozen ways
        raise Unavailable(f"{path} is not a checkpoint of SAM {kind}.") from error
    return Checkpoint(model.to(device), path.stem)
