"""`python -m foir.mini.train`: trains the towers of `mini`, its captioner or its box head for some hours.

A stage goes on from the weights of the one before, and a killed stage from its last checkpoint. Settings were chosen on
dev data; docs/training.md lists the stages of the shipped weights and what was tried.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foir import hub
from foir.errors import BadPrompt
from foir.mini import captioner, weights
from foir.mini.text_encoder import TextHead
from foir.mini.training import adapters
from foir.mini.training.captions import CaptionSettings, CaptionTrainer
from foir.mini.training.ema_optimizer import EmaOptimizer
from foir.mini.training.photos import BoxedPhotos, Photos, flickr_pictures
from foir.mini.training.pictures import SIZE, Pictures, scenes
from foir.mini.training.proposals import ProposalSettings, ProposalTrainer
from foir.mini.training.stage import Stage, log, run_stage
from foir.mini.training.texts import EncodedTexts
from foir.mini.training.trainer import Settings, TowerTrainer, TrainingData
from foir.playroom import sprites
from foir.segment import box_head, regions
from foir.terminal import Parser, path, positive_int, run_command

SCENE_TOKENS = 64  # of a scene's caption


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    parser = Parser(
        prog="python -m foir.mini.train",
        description="Train mini, the offline model, on the CPU.",
        epilog="Example: %(prog)s --hours 2 --out /tmp/mini --work /tmp/mini-work --choose",
    )
    parser.add_argument("part", nargs="?", choices=("towers", "captioner", "proposals"), default="towers")
    parser.add_argument("--hours", type=_positive, default=2.0, help="of two CPU cores with bfloat16 instructions")
    parser.add_argument("--out", type=path, required=True, help="where the trained parts are written")
    parser.add_argument("--start", type=path, help="trained parts to go on from (default: those of foir)")
    parser.add_argument("--fresh", action="store_true", help="start from the backbone instead")
    parser.add_argument("--work", type=path, required=True, help="folder for pictures, texts and checkpoints, 5 GB")
    parser.add_argument("--scenes", type=positive_int, default=8000, help="scenes that are composed once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="leave Flickr8k's dev list out, to choose settings on it")
    parser.add_argument("--float32", action="store_true", help="for CPUs without bfloat16 instructions")
    parser.add_argument("--without-voc", action="store_true", help="leave the photos with boxes out")
    args = parser.parse_args(argv)
    return run_command("foir.mini.train", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    photos = Photos.read(hub.data_folder() / "flickr8k")
    lists = ("train", "rest") if args.choose else ("train", "dev", "rest")
    rows = np.sort(np.concatenate([photos.rows[name] for name in lists]))
    voc = None if args.without_voc else BoxedPhotos.read(hub.data_folder() / "voc12_part")
    start = None if args.fresh else args.start or weights.FILE
    facts = {
        "lists": photos.digest,
        "seed": str(args.seed),
        "command": f"python -m foir.mini.train {args.part} --hours {args.hours:g}" + " --choose" * args.choose,
        "start": weights.read_trained(start)[1] if start else "backbone",
        "photos": str(len(rows)),
        "boxed": str(len(voc.files) if voc else 0),
        "scenes": str(args.scenes),
        "torch": torch.__version__,
    }
    stage = Stage(args.out, args.work, args.hours, args.seed, start, facts)
    if args.part == "proposals":
        if voc is None:
            raise BadPrompt("The box head is trained on photos with boxes: leave out --without-voc.")
        return train_proposals(ProposalSettings(), voc, stage, half=not args.float32)
    data = training_data(photos, rows, voc, args.scenes, args.work)
    if args.part == "towers":
        train_towers(Settings(half=not args.float32), data, stage)
    else:
        captions = [photos.captions[row] for row in rows]
        train_captions(CaptionSettings(), data, captions, stage, half=not args.float32)


def train_towers(settings: Settings, data: TrainingData, stage: Stage) -> bool:
    """Train both towers for a stage and save them; returns whether the stage is done."""
    torch.manual_seed(stage.seed)
    tower = adapters.trainable_tower(stage.start)
    text = weights.load_text_head(stage.start) if stage.start else TextHead(weights.DIM)
    encoder = tower.as_encoder("in training")
    trainer = TowerTrainer(settings, data, encoder, text, seed=stage.seed)
    trained = adapters.trained_parameters(tower)
    own = [n for n in trained if n.startswith("model.") and not n.endswith((weights.DOWN, weights.UP))]
    new = [parameter for name, parameter in trained.items() if name not in own]
    new += [*text.parameters(), *trainer.temperatures.parameters()]
    for parameter in [*trained.values(), *new]:
        parameter.requires_grad_(True)
    groups: list[dict[str, Any]] = [
        {"params": [trained[name] for name in own], "lr": settings.block_learning_rate},
        {"params": new, "lr": settings.head_learning_rate},
    ]
    steps = max(1, round(stage.hours * settings.steps_an_hour))
    optimizer = EmaOptimizer(
        groups, steps, weight_decay=settings.weight_decay, max_norm=5.0, ema_decay=settings.ema_decay
    )
    before = [] if stage.start is None else json.loads(weights.training_facts(stage.start).get("stages", "[]"))
    stages = [*before, {"steps": steps, "seed": stage.seed, **asdict(settings)}]
    text.train()
    name = json.dumps([stages, dict(stage.facts)])
    if not run_stage(optimizer, trainer.loss, steps, stage.work / "towers.pt", name, stop_after=stage.stop_after):
        return False
    text.eval()
    weights.save(trained, text, dict(stage.facts) | {"stages": json.dumps(stages)}, stage.out / weights.FILE.name)
    log(f"towers {weights.load_image_tower(stage.out / weights.FILE.name)[1]}")
    return True


def train_captions(
    settings: CaptionSettings, data: TrainingData, captions: Sequence[Sequence[str]], stage: Stage, *, half: bool
) -> None:
    """Train a captioner on the towers in the stage's folder, and save it there; `captions` are of each photo."""
    torch.manual_seed(stage.seed)
    tower, revision = weights.load_image_tower(stage.out / weights.FILE.name)
    trainer = CaptionTrainer(settings, data, captions, tower.as_encoder(revision), stage.seed, half=half)
    facts = _train_behind_towers(trainer, stage, "captions.pt", revision)
    captioner.save(trainer.model.eval(), facts, stage.out / captioner.FILE.name)


def train_proposals(settings: ProposalSettings, photos: BoxedPhotos, stage: Stage, *, half: bool) -> None:
    """Train a box head on the towers in the stage's folder, and save it there."""
    torch.manual_seed(stage.seed)
    tower, revision = weights.load_image_tower(stage.out / weights.FILE.name)
    encoder = tower.as_encoder(revision)
    trainer = ProposalTrainer(settings, photos, encoder, stage.seed, half)
    facts = _train_behind_towers(trainer, stage, "boxes.pt", revision)
    box_head.save(trainer.model, encoder, facts, stage.out / regions.FILE.name)


def _train_behind_towers(
    trainer: CaptionTrainer | ProposalTrainer, stage: Stage, checkpoint: str, towers: str
) -> dict[str, str]:
    """Train a model on finished towers of this revision; returns the facts for its file's header."""
    settings = trainer.settings
    steps = max(1, round(stage.hours * settings.steps_an_hour))
    groups = [{"params": list(trainer.model.parameters()), "lr": settings.learning_rate}]
    optimizer = EmaOptimizer(
        groups, steps, weight_decay=settings.weight_decay, max_norm=1.0, ema_decay=settings.ema_decay
    )
    trainer.model.train()
    facts = dict(stage.facts) | {"towers": towers, "settings": json.dumps({"steps": steps, **asdict(settings)})}
    run_stage(optimizer, trainer.loss, steps, stage.work / checkpoint, json.dumps(facts))
    return facts


def training_data(photos: Photos, rows: np.ndarray, voc: BoxedPhotos | None, count: int, work: Path) -> TrainingData:
    """All that is trained on; pictures and encoded texts are kept in `work`.

    Args:
        photos: Flickr8k.
        rows: The photos of it to train on.
        voc: The photos with boxes; None for none.
        count: Number of composed scenes.
        work: A folder.

    Raises:
        Unavailable: A package that carries weights is missing.
    """
    ends = [0, *np.cumsum([len(photos.captions[row]) for row in rows])]
    captions = EncodedTexts.kept([text for row in rows for text in photos.captions[row]], work)
    composed = scenes(count, work)
    boxed = voc.pictures(work) if voc else Pictures(np.zeros((0, SIZE, SIZE, 3), np.uint8), ())
    toys, categories = sprites(), sorted({sprite.category for sprite in sprites()})
    return TrainingData(
        photos=flickr_pictures(photos, rows, work),
        captions=captions,
        caption_rows=tuple(np.arange(start, end) for start, end in pairwise(ends)),
        caption_features=captions.centred_means(),
        scenes=composed,
        scene_captions=EncodedTexts.kept(composed.captions, work, SCENE_TOKENS),
        toys=EncodedTexts.encode([toy.name for toy in toys]),
        known_toys=np.array([i for i, toy in enumerate(toys) if not toy.held_out]),
        categories=np.array([categories.index(toy.category) for toy in toys]),
        boxed=boxed,
        classes=EncodedTexts.encode(voc.classes if voc else ()),
    )


def _positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
