"""`python -m eval detect`: a detector's boxes on the photos of a data set, for the (D) rows of the Q-Pert tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from foir import encoders, hub
from foir.errors import Unavailable, os_errors
from foir.index.writer import atomic_write
from foir.pretrained import load_pretrained

from .datasets import karpathy
from .datasets.base import image_file
from .datasets.detections import image_number, read_entries

LEAST_SCORE = 0.05  # of a box that is written; below the reader's threshold, so that this one can be changed
SAVED_EVERY = 200  # photos
COUNTERS = ("*num_batches_tracked",)  # of batch normalisation, used in training only


def detect(model: str, dataset: str, revision: str | None = None, device: str = "auto") -> Path:
    """Detect the objects on all photos of a data set and write them where the data set's loader reads them.

    A file of the same detector keeps its other photos, and a killed run resumes from the file's `.part`.

    Args:
        model: Repository of any model that transformers opens as AutoModelForObjectDetection.
        dataset: One of `karpathy.SPLITS`.
        revision: Commit, tag or branch of the detector.
        device: "cpu", "cuda", "mps" or "auto".

    Returns:
        The file; see `detections`.

    Raises:
        Unavailable: Data or weights are missing, or the file holds the boxes of another detector.
    """
    path, photos = karpathy.photos(dataset)
    part = path.with_name(f"{path.name}.part")
    found = next((read_entries(file) for file in (part, path) if file.exists()), [])
    detector = Detector(model, revision, encoders.resolve_device(device))
    if others := {str(entry.get("detector", "an unnamed detector")) for entry in found} - {detector.name}:
        raise Unavailable(
            f"{part if part.exists() else path} holds boxes of {', '.join(sorted(others))}, not of {detector.name}: "
            "move it away first."
        )
    known = {str(entry["image_id"]) for entry in found}
    remaining = [name for name in photos if not known & {name, image_number(name)}]
    with os_errors(f"The boxes {path} cannot be written"):
        for count, name in enumerate(tqdm(remaining, desc="photos"), 1):
            found += [{"image_id": _image_id(name), **box} for box in detector(image_file(photos[name])())]
            if count % SAVED_EVERY == 0:
                atomic_write(part, json.dumps(found).encode())
        atomic_write(path, json.dumps(found).encode())
        part.unlink(missing_ok=True)
    return path


class Detector:
    """A transformers object detector.

    Attributes:
        name: Its repository and commit.
    """

    def __init__(self, model: str, revision: str | None, device: str) -> None:
        """Load it.

        Raises:
            Unavailable: The weights cannot be fetched, or are not those of an object detector.
        """
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        processors: Any = AutoImageProcessor
        folder, commit = hub.download_weights(model, revision)
        loaded = load_pretrained(AutoModelForObjectDetection, folder, optional=COUNTERS, ignored=COUNTERS)
        self.name, self._model = f"{model}@{commit}", loaded.to(device).eval()
        try:
            self._processor = processors.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise Unavailable(f"{model} has no image processor that transformers can open: use another.") from error

    def __call__(self, image: Image.Image) -> list[dict[str, Any]]:
        """The objects on an RGB image with a score of at least `LEAST_SCORE`, without `image_id`."""
        import torch

        with torch.inference_mode():
            inputs = self._processor(images=image, return_tensors="pt").to(self._model.device)
            outputs = self._model(**inputs)
            (found,) = self._processor.post_process_object_detection(
                outputs, threshold=LEAST_SCORE, target_sizes=[(image.height, image.width)]
            )
        rows = zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)
        return [
            {
                "category_id": label,
                "bbox": [round(number, 2) for number in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(score, 5),
                "detector": self.name,
            }
            for (x0, y0, x1, y1), label, score in rows
        ]


def _image_id(name: str) -> int | str:
    """The number in a photo's name, as COCO has it; the name where it has none."""
    number = image_number(name)
    return int(number) if number.isdecimal() else name
