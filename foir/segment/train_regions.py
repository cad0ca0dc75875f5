"""`python -m foir.segment.train_regions`: what a thing looks like to `mini`, learnt on composed scenes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from foir import encoders
from foir.playroom import compose
from foir.segment.boxes import iou
from foir.segment.regions import RULES, LogisticRule, PatchFeatures, merge_regions, patch_features

SCENES, FIRST = 120, 900_000  # seeds that nothing else trains on
GROUND, FIGURE = 0.1, 0.6  # shares of a patch that a thing covers: less is ground, more is figure
RIGHT = 0.6  # IoU from which a region counts as a thing
PATCHES = 40_000
COMMAND = "python -m foir.segment.train_regions"


def main(argv: Sequence[str] | None = None) -> int:
    """Learn both rules and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RULES)
    parser.add_argument("--scenes", type=int, default=SCENES)
    args = parser.parse_args(argv)
    args.out.write_text(json.dumps(learn(args.scenes)) + "\n", encoding="utf-8")
    sys.stdout.write(f"{args.out} written\n")
    return 0


def learn(scenes: int) -> dict[str, Any]:
    """The two rules, and for which encoder they are."""
    encoder = encoders.load("mini", device="cpu")
    seen: list[
        tuple[PatchFeatures, np.ndarray, np.ndarray]
    ] = []  # a look, how far things cover its patches, their boxes
    for number in tqdm(range(FIRST, FIRST + scenes), desc="scenes"):
        scene = compose("train", number)
        covered = np.logical_or.reduce([thing.mask for thing in scene.things]).astype(np.float32)
        boxes = np.array([thing.box for thing in scene.things]) / [*scene.image.size, *scene.image.size]
        for look in patch_features(encoder, scene.image):
            small = Image.fromarray(covered).resize(look.deep.shape[1::-1], Image.Resampling.BOX)
            seen.append((look, np.asarray(small), boxes))
    patch = _patch_rule(seen)
    facts, right = [], []
    for look, _, boxes in seen:
        some = merge_regions(look, patch(look.deep))
        facts.append(some.region_features)
        right.append(np.max([iou(box, some.boxes) for box in boxes], 0) >= RIGHT)
    region = fitted(np.concatenate(facts), np.concatenate(right), 1.0)
    return {
        "encoder": [encoder.name, encoder.revision],
        "command": COMMAND,
        "scenes": scenes,
        "patch": _written(patch),
        "region": _written(region),
    }


def _patch_rule(seen: Sequence[tuple[PatchFeatures, np.ndarray, np.ndarray]]) -> LogisticRule:
    patches = np.concatenate([look.deep.reshape(-1, look.deep.shape[-1]) for look, _, _ in seen])
    covered = np.concatenate([small.ravel() for _, small, _ in seen])
    clear = np.flatnonzero((covered < GROUND) | (covered > FIGURE))
    some = np.random.default_rng(0).permutation(clear)[:PATCHES]
    return fitted(patches[some], covered[some] > FIGURE, 1.0)


def fitted(facts: np.ndarray, right: np.ndarray, softness: float) -> LogisticRule:
    """A logistic rule from facts [n, d] and answers, bool [n]."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = facts.mean(0), facts.std(0) + 1e-6
    model = LogisticRegression(C=softness, max_iter=1000).fit((facts - mean) / scale, right)
    return LogisticRule(mean, scale, model.coef_[0], model.intercept_[0])


def _written(rule: LogisticRule) -> dict[str, Any]:
    parts = {"mean": rule.mean, "scale": rule.scale, "weights": rule.weights}
    rounded = {name: [float(f"{value:.5g}") for value in part] for name, part in parts.items()}
    return {**rounded, "bias": float(rule.bias)}


if __name__ == "__main__":
    raise SystemExit(main())
