"""`python -m foir.mini.train`: trains the towers and the captioner of `mini` on photos and composed scenes.

Settings were selected by training on Flickr8k's train list and measuring on its dev list (`--choose`); the shipped
weights come from the same command without it, on all photos that are not on the test list. docs/training.md lists the
experiments.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from foir import encoders, hub
from foir.encoders import dinov2
from foir.encoders.base import Encoder
from foir.mini import backbone, captioner, weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import data
from foir.mini.training.captions import train_captioner
from foir.mini.training.data import EncodedTexts, Photos
from foir.mini.training.trainer import Settings, TrainingData, log, train_towers
from foir.playroom import sprites
from foir.terminal import Parser, path, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    parser = Parser(
        prog="python -m foir.mini.train",
        description="Train mini, the offline model.",
        epilog="Example: %(prog)s --out /tmp/mini --work /tmp/tokens --choose",
    )
    parser.add_argument("--out", type=path, default=weights.FILE.parent, help="where the trained parts are written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument("--work", type=path, help="folder that caches the backbone's tokens, 4 GB, for the next run")
    parser.add_argument("--choose", action="store_true", help="train on the train list only, measure on the dev list")
    args = parser.parse_args(argv)
    return run_command("foir.mini.train", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        cache, data_folder = args.work or Path(temporary), hub.data_folder() / "flickr8k"
        train(Settings(), data_folder, args.out, cache, seed=args.seed, device=args.device, choose=args.choose)


def train(
    settings: Settings, photo_folder: Path, out: Path, cache: Path, *, seed: int = 0, device: str = "cpu",
    choose: bool = False,
) -> None:  # fmt: skip
    """Train both towers and the captioner and save them to `out`.

    Args:
        settings: Hyperparameters.
        photo_folder: Flickr8k in its official layout.
        out: Folder for the trained parts.
        cache: Folder for the backbone's tokens; those of an earlier run are reused.
        seed: Random seed.
        device: "cpu", "cuda", "mps" or "auto".
        choose: Train on the train list only, and measure on the dev list.

    Raises:
        Unavailable: The photos, a package that carries weights, or the device are missing.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = encoders.resolve_device(device)
    photos = Photos.read(photo_folder)
    rows = photos.rows["train"] if choose else np.setdiff1d(np.arange(len(photos.files)), photos.rows["test"])
    cache.mkdir(parents=True, exist_ok=True)
    training_data = _training_data(settings, photos, rows, cache, device)
    log(f"{len(rows)} photos read after {time.perf_counter() - start:.0f} s")
    image, text = weights.ImageTower(), TextHead(weights.DIM)
    train_towers(settings, training_data, image, text, rng)
    facts = {
        "lists": photos.digest,
        "seed": str(seed),
        "command": "python -m foir.mini.train" + (f" --seed {seed}" if seed else "") + (" --choose" if choose else ""),
        "settings": json.dumps(asdict(settings)),
        "photos": str(len(rows)),
        "torch": torch.__version__,
    }
    weights.save(image, text, facts, out / weights.FILE.name)
    image, revision = weights.load_image_tower(out / weights.FILE.name)
    encoder = image.as_encoder(revision).to(device, torch.float32)
    model = train_captioner(settings, training_data, photos, encoder, seed)
    captioner.save(model, facts | {"towers": revision}, out / captioner.FILE.name)
    log(f"done after {time.perf_counter() - start:.0f} s, towers {revision}")
    if choose:
        text = weights.load_text_head(out / weights.FILE.name)
        log(_dev_recall(photos, image.to("cpu").as_encoder(revision), text))


def _training_data(settings: Settings, photos: Photos, rows: np.ndarray, cache: Path, device: str) -> TrainingData:
    frozen = dinov2.wrap(backbone.load(weights.FROZEN), "mini-trunk", backbone.SHA256[:16]).to(device, torch.float32)
    ends = np.cumsum([0, *map(len, photos.captions)])
    scenes = data.scene_data(frozen, settings.scenes, cache)
    captions = EncodedTexts.encode([text for texts in photos.captions for text in texts])
    categories = sorted({sprite.category for sprite in sprites()})
    return TrainingData(
        rows=rows,
        tokens=data.photo_tokens(frozen, photos, rows, cache),
        crop_tokens=data.crop_tokens(frozen, photos, rows, cache),
        captions=captions,
        caption_rows=tuple(np.arange(start, end) for start, end in pairwise(ends)),
        caption_features=captions.centred_means(),
        collages=data.collage_data(frozen, photos, rows, settings.collages, cache),
        scenes=scenes,
        names=EncodedTexts.encode([sprite.name for sprite in sprites()]),
        categories=torch.tensor([categories.index(sprite.category) for sprite in sprites()]),
        scene_captions=EncodedTexts.encode(scenes.captions, 64),
        device=device,
    )


@torch.inference_mode()
def _dev_recall(photos: Photos, encoder: Encoder, text: TextHead) -> str:
    """Text-to-image recall on the dev list, as a line of text."""
    rows = photos.rows["dev"]
    batches = [rows[start : start + data.BATCH] for start in range(0, len(rows), data.BATCH)]
    pixels = (encoder.pixels([photos.image(row) for row in batch]) for batch in batches)
    images = torch.cat([encoder.finish(encoder.prefix(batch)).vectors for batch in pixels])
    owner = np.repeat(np.arange(len(rows)), [len(photos.captions[row]) for row in rows])
    captions = EncodedTexts.encode([caption for row in rows for caption in photos.captions[row]])
    chunks = np.array_split(np.arange(len(owner)), max(1, len(owner) // 128))
    texts = torch.cat([text(*captions.take(chunk, "cpu")) for chunk in chunks])
    scores = texts @ images.T
    ranks = (scores > scores.gather(1, torch.from_numpy(owner)[:, None])).sum(1)
    recalls = (f"R@{k} {100 * float((ranks < k).float().mean()):.1f}" for k in (1, 5, 10))
    return "dev list, words to pictures: " + ", ".join(recalls)


if __name__ == "__main__":
    sys.exit(main())
