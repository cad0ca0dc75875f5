"""The photos that `mini` is trained on: Flickr8k with its captions, a part of VOC2012 with its boxes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foir import images
from foir.errors import Unavailable
from foir.mini.training.pictures import NOTHING, Pictures, Things, box_areas, read_pixels

LISTS = {name: f"Flickr_8k.{name}Images.txt" for name in ("train", "dev", "test")}
VOC_DIGITS = "6789abcdef"  # of a photo's name's digest: the others are for choosing and reporting
SPOKEN = {
    "pottedplant": "potted plant", "tvmonitor": "tv monitor", "diningtable": "dining table", "aeroplane": "airplane",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Photos:
    """Flickr8k.

    Attributes:
        folder: The data set's folder.
        files: Names of all photos, sorted.
        captions: Captions of each photo.
        rows: Rows of `files` on each official list; "rest" is on none.
        digest: Of captions and lists.
    """

    folder: Path
    files: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    rows: dict[str, np.ndarray]
    digest: str

    @classmethod
    def read(cls, folder: Path) -> Photos:
        """Read the official layout: `images/`, `captions.txt`, three lists.

        Raises:
            Unavailable: A file is missing.
        """
        try:
            lists = {name: set((folder / file).read_text().split()) for name, file in LISTS.items()}
            sheet = (folder / "captions.txt").read_text(encoding="utf-8")
            files = tuple(sorted(path.name for path in (folder / "images").iterdir()))
        except OSError as error:
            raise Unavailable(f"Flickr8k is not at {folder}: put it there, or set FOIR_DATA.") from error
        captions: dict[str, list[str]] = {file: [] for file in files}
        for row in csv.reader(sheet.splitlines()[1:]):
            if row and row[0] in captions:
                captions[row[0]].append(row[1])
        members = {**lists, "rest": set(files) - set().union(*lists.values())}
        rows = {
            name: np.array([i for i, file in enumerate(files) if file in names], int) for name, names in members.items()
        }
        digest = hashlib.sha256(sheet.encode())
        for name in LISTS:
            digest.update("\n".join(sorted(lists[name])).encode())
        return cls(folder, files, tuple(map(tuple, captions.values())), rows, digest.hexdigest())

    def image(self, row: int) -> Image.Image:
        """A photo, RGB."""
        return images.read(self.folder / "images" / self.files[row]).image


def flickr_pictures(photos: Photos, rows: np.ndarray, cache: Path) -> Pictures:
    """Some photos, in the order of `rows`; nothing on them is known."""
    name = hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:12]
    return Pictures(read_pixels(len(rows), lambda i: photos.image(rows[i]), cache / f"photos-{name}.npy"), ())


@dataclass(frozen=True, eq=False)
class BoxedPhotos:
    """The training photos of voc12_part.

    Attributes:
        folder: Where they are.
        files: Their names.
        things: The things on each; their labels are rows of `classes`.
        classes: Names of the classes.
    """

    folder: Path
    files: tuple[str, ...]
    things: tuple[Things, ...]
    classes: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> BoxedPhotos:
        """Read `instances.json`.

        Raises:
            Unavailable: A file is missing or damaged.
        """
        try:
            data = json.loads((folder / "instances.json").read_text())
            entries = [
                e for e in data["images"] if hashlib.sha256(e["file_name"].encode()).hexdigest()[-1] in VOC_DIGITS
            ]
            known = {category["id"]: i for i, category in enumerate(data["categories"])}
            classes = tuple(SPOKEN.get(category["name"], category["name"]) for category in data["categories"])
            boxes: dict[int, list[list[float]]] = defaultdict(list)
            labels: dict[int, list[int]] = defaultdict(list)
            for item in data["annotations"]:
                x, y, width, height = item["bbox"]
                boxes[item["image_id"]].append([x, y, x + width, y + height])
                labels[item["image_id"]].append(known[item["category_id"]])
            things = []
            for entry in entries:
                if entry["id"] not in boxes:
                    things.append(NOTHING)
                    continue
                shape = [entry["width"], entry["height"]] * 2
                fractions = np.clip(np.array(boxes[entry["id"]]) / shape, 0, 1).astype(np.float32)
                things.append(Things(fractions, np.array(labels[entry["id"]]), box_areas(fractions)))
            return cls(folder, tuple(entry["file_name"] for entry in entries), tuple(things), classes)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"voc12_part is not at {folder}: put it there, or set FOIR_DATA.") from error

    def image(self, row: int) -> Image.Image:
        """A photo, RGB."""
        return images.read(self.folder / "images" / self.files[row]).image

    def pictures(self, cache: Path) -> Pictures:
        """All of them, as the towers see them; kept in `cache`."""
        count = len(self.files)
        return Pictures(read_pixels(count, self.image, cache / f"voc-{count}.npy"), self.things)
