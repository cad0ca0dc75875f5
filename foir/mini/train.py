"""`python -m foir.mini.train`: trains the towers and the captioner of `mini` from photos and composed scenes.

Settings were chosen by training on Flickr8k's train list and measuring on its dev list (`--choose`); the shipped
weights come from the same command without it, on every photo that is not on the test list. docs/mini.md keeps what was
tried.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from foir import encoders, hub
from foir.encoders import dinov2
from foir.encoders.base import Encoder
from foir.errors import FoirError
from foir.mini import backbone, captioner, weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import data
from foir.mini.training.captions import learn_captions
from foir.mini.training.data import Photos, Read
from foir.mini.training.trainer import Lessons, Settings, learn_towers, log
from foir.playroom import sprites


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m foir.mini.train", description="Trains mini, the offline model.")
    parser.add_argument("--out", type=Path, default=weights.FILE.parent, help="where the trained parts are written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument("--work", type=Path, help="folder that keeps the trunk's tokens, 4 GB, for the next run")
    parser.add_argument("--choose", action="store_true", help="train on the train list only, measure on the dev list")
    args = parser.parse_args(argv)
    data = hub.data_folder() / "flickr8k"
    try:
        with tempfile.TemporaryDirectory() as temporary:
            work = args.work or Path(temporary)
            train(Settings(), data, args.out, work, seed=args.seed, device=args.device, choose=args.choose)
    except FoirError as error:
        sys.stderr.write(f"foir.mini.train: {error}\n")
        return 1
    return 0


def train(
    settings: Settings, data: Path, out: Path, work: Path, *, seed: int = 0, device: str = "cpu", choose: bool = False
) -> None:
    """Train both towers and the captioner and write them to `out`.

    Args:
        settings: What was chosen.
        data: Flickr8k in its official layout.
        out: Folder for the trained parts.
        work: Folder for the trunk's tokens; those of an earlier run are taken over.
        seed: Of everything random.
        device: "cpu", "cuda", "mps" or "auto".
        choose: Learn from the train list only, and measure on the dev list.

    Raises:
        Unavailable: The photos, a package that carries weights, or the device are not there.
    """
    started = time.perf_counter()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = encoders.resolve_device(device)
    photos = Photos.read(data)
    used = photos.rows["train"] if choose else np.setdiff1d(np.arange(len(photos.files)), photos.rows["test"])
    work.mkdir(parents=True, exist_ok=True)
    given = _lessons(settings, photos, used, work, device)
    log(f"{len(used)} photos read after {time.perf_counter() - started:.0f} s")
    image, text = weights.ImageTower(), TextHead(weights.DIM)
    learn_towers(settings, given, image, text, rng)
    facts = {
        "lists": photos.digest,
        "seed": str(seed),
        "command": "python -m foir.mini.train" + (f" --seed {seed}" if seed else "") + (" --choose" if choose else ""),
        "settings": json.dumps(asdict(settings)),
        "photos": str(len(used)),
        "torch": torch.__version__,
    }
    weights.write(image, text, facts, out / weights.FILE.name)
    image, revision = weights.image_tower(out / weights.FILE.name)
    writer = learn_captions(settings, given, photos, image.opened(revision).to(device, torch.float32), seed)
    captioner.write(writer, facts | {"towers": revision}, out / captioner.FILE.name)
    log(f"done after {time.perf_counter() - started:.0f} s, towers {revision}")
    if choose:
        log(_dev(photos, image.to("cpu").opened(revision), weights.text_head(out / weights.FILE.name)))


def _lessons(settings: Settings, photos: Photos, used: np.ndarray, work: Path, device: str) -> Lessons:
    frozen = dinov2.wrap(backbone.load(weights.FROZEN), "mini-trunk", backbone.SHA256[:16]).to(device, torch.float32)
    texts = [text for said in photos.captions for text in said]
    ends = np.cumsum([0, *(len(said) for said in photos.captions)])
    scenes = data.scenes(frozen, settings.scenes, work)
    captions = Read.of(texts)
    kinds = sorted({sprite.category for sprite in sprites()})
    return Lessons(
        rows=used,
        tokens=data.photo_tokens(frozen, photos, used, work),
        parts=data.part_tokens(frozen, photos, used, work),
        captions=captions,
        alike=captions.means(),
        spoken=tuple(np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False)),
        patchworks=data.patchworks(frozen, photos, used, settings.patchworks, work),
        scenes=scenes,
        names=Read.of([sprite.name for sprite in sprites()]),
        families=torch.tensor([kinds.index(sprite.category) for sprite in sprites()]),
        scene_captions=Read.of(scenes.captions, 64),
        device=device,
    )


@torch.inference_mode()
def _dev(photos: Photos, encoder: Encoder, text: TextHead) -> str:
    """Recall of the dev list's photos by their captions."""
    rows = photos.rows["dev"]
    batches = [rows[start : start + data.BATCH] for start in range(0, len(rows), data.BATCH)]
    pixels = (encoder.pixels([photos.picture(row) for row in batch]) for batch in batches)
    pictures = torch.cat([encoder.finish(encoder.prefix(batch)).vectors for batch in pixels])
    said = [(place, caption) for place, row in enumerate(rows) for caption in photos.captions[row]]
    read = Read.of([caption for _, caption in said])
    parts = np.array_split(np.arange(len(said)), max(1, len(said) // 128))
    words = torch.cat([text(*read.take(part, "cpu")) for part in parts])
    scores = words @ pictures.T
    own = scores.gather(1, torch.tensor([[place] for place, _ in said]))
    ranks = (scores > own).sum(1)
    return "dev list, words to pictures: " + ", ".join(
        f"R@{k} {100 * float((ranks < k).float().mean()):.1f}" for k in (1, 5, 10)
    )


if __name__ == "__main__":
    sys.exit(main())
