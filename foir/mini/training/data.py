"""Training data of `mini`: photos with captions, collages of photos, composed scenes.

Each image runs once through the frozen backbone; its tokens are cached in a file, so that an epoch costs only the
trained blocks.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from foir import images
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.mini import text_encoder
from foir.mini.backbone import DIM
from foir.patches import rasterise
from foir.playroom import compose, sprites
from foir.prompts import Prompt

LISTS = {name: f"Flickr_8k.{name}Images.txt" for name in ("train", "dev", "test")}
IMAGE_SIZE, SCENE_SIZE = (224, 224), (448, 336)
INSET = 7  # pixels between a photo's edge on a collage and its prompt, half a patch
BATCH = 16
_Box = tuple[float, float, float, float]


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


@dataclass(frozen=True, eq=False)
class PromptedImages:
    """Images with objects.

    Attributes:
        tokens: Backbone tokens of each image, float16 [n, T, 384].
        objects: For each image the patches of its objects bool [m, rows * cols], and their labels int [m].
        captions: One for each image.
    """

    tokens: np.ndarray
    objects: tuple[tuple[np.ndarray, np.ndarray], ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Texts behind the frozen text model: token states float16 [n, T, 384] and their lengths without padding [n]."""

    states: np.ndarray
    lengths: np.ndarray

    @classmethod
    def encode(cls, texts: Sequence[str], max_tokens: int = 32) -> EncodedTexts:
        """Run texts through MiniLM in batches of similar length."""
        states = np.zeros((len(texts), max_tokens, text_encoder.WIDTH), np.float16)
        lengths = np.zeros(len(texts), np.int64)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), 128):
            rows = order[start : start + 128]
            batch, count, _ = text_encoder.token_states([texts[i] for i in rows], max_tokens)
            states[rows, : batch.shape[1]], lengths[rows] = batch.numpy(), count
        return cls(states, lengths)

    def centred_means(self) -> np.ndarray:
        """Unit vectors float32 [n, 384]: the mean state of each text, less the mean of all texts."""
        rows = zip(self.states, self.lengths, strict=True)
        mean = np.stack([states[:length].mean(0, dtype=np.float32) for states, length in rows])
        mean -= mean.mean(0)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def take(self, rows: np.ndarray, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """States in float32 and lengths of some texts, padded to the longest of them."""
        lengths = self.lengths[rows]
        states = torch.from_numpy(self.states[rows, : lengths.max()])
        return states.to(device).float(), torch.from_numpy(lengths).to(device)


def photo_tokens(backbone: Encoder, photos: Photos, rows: np.ndarray, cache: Path) -> np.ndarray:
    """Backbone tokens of some photos, in the order of `rows`, cached in a folder."""
    return _tokens(backbone, len(rows), lambda i: photos.image(rows[i]), cache, f"photos-{_digest(rows)}")


def crop_tokens(backbone: Encoder, photos: Photos, rows: np.ndarray, cache: Path) -> np.ndarray:
    """The same of a mirrored crop of each photo, with half of its area or more; the crop is always the same."""
    draws = np.random.default_rng(1).random((len(photos.files), 4))

    def crop(i: int) -> Image.Image:
        photo, (share, shape, across, down) = photos.image(rows[i]), draws[rows[i]]
        share, shape = 0.5 + 0.5 * share, 0.8 * (1.25 / 0.8) ** shape
        width, height = min(1, (share * shape) ** 0.5), min(1, (share / shape) ** 0.5)
        x, y = across * (1 - width), down * (1 - height)
        left, right = int(x * photo.width), int((x + width) * photo.width)
        upper, lower = int(y * photo.height), int((y + height) * photo.height)
        return photo.crop((left, upper, right, lower)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    return _tokens(backbone, len(rows), crop, cache, f"parts-{_digest(rows)}")


def collage_data(backbone: Encoder, photos: Photos, rows: np.ndarray, count: int, cache: Path) -> PromptedImages:
    """Collages of four or six photos; the label of each is its row in `photos`."""
    collages = [_collage(photos, rows, number) for number in range(count)]
    tokens = _tokens(backbone, count, lambda i: collages[i][0](), cache, f"patchworks-{count}-{_digest(rows)}")
    objects = tuple(_patch_masks(boxes, labels, IMAGE_SIZE, backbone.grid) for _, boxes, labels in collages)
    return PromptedImages(tokens, objects, ())


def scene_data(backbone: Encoder, count: int, cache: Path) -> PromptedImages:
    """Composed training scenes; the label of an object is the index of its sprite in `sprites()`."""
    annotations = cache / f"scenes-{count}.json"
    if not annotations.exists():  # composing takes longer than reading the tokens
        with ProcessPoolExecutor() as pool:
            scenes = list(tqdm(pool.map(_scene, range(count), chunksize=8), "scenes", count))
        _tokens(backbone, count, lambda i: scenes[i][0], cache, f"scenes-{count}")
        annotations.write_text(json.dumps([annotation for _, *annotation in scenes]))
    known = json.loads(annotations.read_text())
    labels = {sprite.code: i for i, sprite in enumerate(sprites())}
    objects = tuple(
        _patch_masks(boxes, [labels[code] for code in codes], SCENE_SIZE, backbone.grid) for boxes, codes, _ in known
    )
    tokens = _tokens(backbone, count, lambda i: _scene(i)[0], cache, f"scenes-{count}")
    return PromptedImages(tokens, objects, tuple(caption for *_, caption in known))


@torch.inference_mode()
def _tokens(backbone: Encoder, count: int, image: Callable[[int], Image.Image], cache: Path, name: str) -> np.ndarray:
    file = cache / f"{name}-after-{len(backbone.layers)}.npy"
    if file.exists():  # complete: it gets its name at the end
        return np.load(file, mmap_mode="r")
    shape, partial_file = (count, 1 + backbone.grid[0] * backbone.grid[1], DIM), file.with_suffix(".part")
    tokens = np.lib.format.open_memmap(partial_file, "w+", np.float16, shape)
    for start in tqdm(range(0, count, BATCH), file.stem, unit="batch"):
        rows = range(start, min(start + BATCH, count))
        x = backbone.embed(backbone.pixels([image(row) for row in rows]).to(backbone.device))
        for layer in backbone.layers:
            x = layer(x)
        tokens[start : rows[-1] + 1] = x.half().cpu().numpy()
    partial_file.replace(file)
    return tokens


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:12]


def _collage(photos: Photos, rows: np.ndarray, number: int) -> tuple[Callable[[], Image.Image], list[_Box], list[int]]:
    """A function that draws the collage, the prompt box of each photo, and the photos' rows."""
    rng = np.random.default_rng([5, number])
    xs = (0, int(224 * rng.uniform(0.38, 0.62)), 224)
    ys: tuple[int, ...] = (0, int(224 * rng.uniform(0.38, 0.62)), 224)
    if rng.random() < 0.5:
        ys = (0, int(224 * rng.uniform(0.25, 0.4)), int(224 * rng.uniform(0.58, 0.75)), 224)
    cells = [(x0, y0, x1, y1) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]
    chosen = [int(row) for row in rng.choice(rows, len(cells), replace=False)]
    mirrored = rng.random(len(cells)) < 0.5

    def draw() -> Image.Image:
        collage = Image.new("RGB", IMAGE_SIZE)
        for (x0, y0, x1, y1), row, mirror in zip(cells, chosen, mirrored, strict=True):
            photo = photos.image(row).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
            collage.paste(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else photo, (x0, y0))
        return collage

    boxes: list[_Box] = [(x0 + INSET, y0 + INSET, x1 - INSET, y1 - INSET) for x0, y0, x1, y1 in cells]
    return draw, boxes, chosen


def _scene(number: int) -> tuple[Image.Image, list[_Box], list[str], str]:
    """A composed scene, the boxes and sprite codes of its objects, and its caption."""
    scene = compose("train", number, size=SCENE_SIZE)
    image = scene.image.resize(IMAGE_SIZE, Image.Resampling.BICUBIC)
    return image, [item.box for item in scene.objects], [item.sprite.code for item in scene.objects], scene.caption


def _patch_masks(
    boxes: Sequence[_Box], labels: Sequence[int], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    masks = [rasterise(Prompt.box(*box), size, grid).patches.reshape(-1) for box in boxes]
    return np.array(masks, bool).reshape(len(boxes), -1), np.array(labels, int)
