"""What `mini` learns from: photos with captions, patchworks of photos, playroom scenes.

Each picture runs once through the frozen trunk; its tokens are kept in a file, so that an epoch costs only the blocks
that are trained.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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
SCENE_SIZE = (448, 336)
INSET = 7  # pixels that a prompt on a patchwork stays inside its photo, half a patch
BATCH = 16
_Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Photos:
    """Flickr8k: photo files in order, their captions, and the rows of each list; `rest` is on no list."""

    folder: Path
    files: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    rows: dict[str, np.ndarray]
    digest: str

    @classmethod
    def read(cls, folder: Path) -> Photos:
        """Read the official layout: `images/`, `captions.txt`, three lists.

        Raises:
            Unavailable: Something of it is missing.
        """
        try:
            named = {name: set((folder / file).read_text().split()) for name, file in LISTS.items()}
            sheet = (folder / "captions.txt").read_text(encoding="utf-8")
            files = tuple(sorted(path.name for path in (folder / "images").iterdir()))
        except OSError as error:
            raise Unavailable(f"Flickr8k is not at {folder}: put it there, or set FOIR_DATA.") from error
        said: dict[str, list[str]] = {file: [] for file in files}
        for row in csv.reader(sheet.splitlines()[1:]):
            if row and row[0] in said:
                said[row[0]].append(row[1])
        rows = {
            name: np.array([i for i, file in enumerate(files) if file in wanted], int) for name, wanted in named.items()
        }
        listed = set().union(*named.values())
        rows["rest"] = np.array([i for i, file in enumerate(files) if file not in listed], int)
        digest = hashlib.sha256(sheet.encode())
        for name in LISTS:
            digest.update("\n".join(sorted(named[name])).encode())
        return cls(folder, files, tuple(map(tuple, said.values())), rows, digest.hexdigest())

    def picture(self, row: int) -> Image.Image:
        """A photo, RGB."""
        return images.read(self.folder / "images" / self.files[row]).image


@dataclass(frozen=True, eq=False)
class Pointed:
    """Pictures with things on them.

    Attributes:
        tokens: Trunk tokens of each picture, float16 [n, T, 384].
        things: Each picture's things: patches they cover bool [m, rows * cols], and what they are, int [m].
        captions: One for each picture.
    """

    tokens: np.ndarray
    things: tuple[tuple[np.ndarray, np.ndarray], ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Read:
    """Texts behind the frozen text model: token states float16 [n, T, 384] and how many of them are real."""

    states: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], tokens: int = 32) -> Read:
        """Run texts through MiniLM, short ones together."""
        states = np.zeros((len(texts), tokens, text_encoder.WIDTH), np.float16)
        lengths = np.zeros(len(texts), np.int64)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), 128):
            rows = order[start : start + 128]
            made, count, _ = text_encoder.states([texts[i] for i in rows], tokens)
            states[rows, : made.shape[1]], lengths[rows] = made.numpy(), count
        return cls(states, lengths)

    def means(self) -> np.ndarray:
        """Unit vectors float32 [n, 384]: the mean state of each text, less the mean of all texts."""
        rows = zip(self.states, self.lengths, strict=True)
        mean = np.stack([states[:length].mean(0, dtype=np.float32) for states, length in rows])
        mean -= mean.mean(0)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def take(self, rows: np.ndarray, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Some of them in float32, no longer than the longest."""
        lengths = self.lengths[rows]
        states = torch.from_numpy(self.states[rows, : lengths.max()])
        return states.to(device).float(), torch.from_numpy(lengths).to(device)


def photo_tokens(trunk: Encoder, photos: Photos, rows: np.ndarray, work: Path) -> np.ndarray:
    """Trunk tokens of some photos, in the order of `rows`; kept in the folder `work` and taken from there."""
    return _tokens(trunk, len(rows), lambda place: photos.picture(rows[place]), work, f"photos-{_digest(rows)}")


def part_tokens(trunk: Encoder, photos: Photos, rows: np.ndarray, work: Path) -> np.ndarray:
    """The same of a mirrored part of each photo: half of it or more, of nearly its shape, always the same part."""
    draws = np.random.default_rng(1).random((len(photos.files), 4))

    def part(place: int) -> Image.Image:
        picture, (share, shape, across, down) = photos.picture(rows[place]), draws[rows[place]]
        share, shape = 0.5 + 0.5 * share, 0.8 * (1.25 / 0.8) ** shape
        width, height = min(1, (share * shape) ** 0.5), min(1, (share / shape) ** 0.5)
        x, y = across * (1 - width), down * (1 - height)
        left, right = int(x * picture.width), int((x + width) * picture.width)
        upper, lower = int(y * picture.height), int((y + height) * picture.height)
        return picture.crop((left, upper, right, lower)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    return _tokens(trunk, len(rows), part, work, f"parts-{_digest(rows)}")


def patchworks(trunk: Encoder, photos: Photos, rows: np.ndarray, count: int, work: Path) -> Pointed:
    """Four or six photos joined to one picture; pointing at one of them must find its caption: `what` is its row."""
    made = [_patchwork(photos, rows, number) for number in range(count)]
    tokens = _tokens(trunk, count, lambda number: made[number][0](), work, f"patchworks-{count}-{_digest(rows)}")
    return Pointed(tokens, tuple(_things(boxes, what, (224, 224), trunk.grid) for _, boxes, what in made), ())


def scenes(trunk: Encoder, count: int, work: Path) -> Pointed:
    """Playroom training scenes; `what` is the place of a thing's sprite in `sprites()`."""
    known = work / f"scenes-{count}.json"
    if not known.exists():  # composing takes longer than reading the tokens
        with ProcessPoolExecutor() as pool:
            made = list(tqdm(pool.map(_scene, range(count), chunksize=8), "scenes", count))
        shown = [image for image, *_ in made]
        _tokens(trunk, count, shown.__getitem__, work, f"scenes-{count}")
        known.write_text(json.dumps([said for _, *said in made]))
    facts = json.loads(known.read_text())
    places = {sprite.code: i for i, sprite in enumerate(sprites())}
    things = [_things(boxes, [places[code] for code in codes], SCENE_SIZE, trunk.grid) for boxes, codes, _ in facts]
    tokens = _tokens(trunk, count, _composed, work, f"scenes-{count}")
    return Pointed(tokens, tuple(things), tuple(caption for *_, caption in facts))


@torch.inference_mode()
def _tokens(trunk: Encoder, count: int, picture: Callable[[int], Image.Image], work: Path, name: str) -> np.ndarray:
    file = work / f"{name}-after-{len(trunk.layers)}.npy"
    if file.exists():  # whole: it gets its name at the end
        return np.load(file, mmap_mode="r")
    shape, part = (count, 1 + trunk.grid[0] * trunk.grid[1], DIM), file.with_suffix(".part")
    kept = np.lib.format.open_memmap(part, "w+", np.float16, shape)
    for start in tqdm(range(0, count, BATCH), file.stem, unit="batch"):
        rows = range(start, min(start + BATCH, count))
        x = trunk.embed(trunk.pixels([picture(row) for row in rows]).to(trunk.device))
        for layer in trunk.layers:
            x = layer(x)
        kept[start : rows[-1] + 1] = x.half().cpu().numpy()
    part.replace(file)
    return kept


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:12]


def _patchwork(
    photos: Photos, rows: np.ndarray, number: int
) -> tuple[Callable[[], Image.Image], list[_Box], list[int]]:
    rng = np.random.default_rng([5, number])
    xs = (0, int(224 * rng.uniform(0.38, 0.62)), 224)
    ys: tuple[int, ...] = (0, int(224 * rng.uniform(0.38, 0.62)), 224)
    if rng.random() < 0.5:
        ys = (0, int(224 * rng.uniform(0.25, 0.4)), int(224 * rng.uniform(0.58, 0.75)), 224)
    cells = [(x0, y0, x1, y1) for y0, y1 in zip(ys, ys[1:], strict=False) for x0, x1 in zip(xs, xs[1:], strict=False)]
    chosen = [int(row) for row in rng.choice(rows, len(cells), replace=False)]
    mirrored = rng.random(len(cells)) < 0.5

    def picture() -> Image.Image:
        joined = Image.new("RGB", (224, 224))
        for (x0, y0, x1, y1), row, mirror in zip(cells, chosen, mirrored, strict=True):
            photo = photos.picture(row).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
            joined.paste(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else photo, (x0, y0))
        return joined

    boxes: list[_Box] = [(x0 + INSET, y0 + INSET, x1 - INSET, y1 - INSET) for x0, y0, x1, y1 in cells]
    return picture, boxes, chosen


def _composed(number: int) -> Image.Image:
    return _scene(number)[0]


def _scene(number: int) -> tuple[Image.Image, list[_Box], list[str], str]:
    scene = compose("train", number, size=SCENE_SIZE)
    small = scene.image.resize((224, 224), Image.Resampling.BICUBIC)
    return small, [thing.box for thing in scene.things], [thing.sprite.code for thing in scene.things], scene.caption


def _things(
    boxes: Sequence[_Box], what: Sequence[int], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    masks = [rasterise(Prompt.box(*box), size, grid).patches.reshape(-1) for box in boxes]
    return np.array(masks, bool).reshape(len(boxes), -1), np.array(what, int)
