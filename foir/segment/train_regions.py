"""`python -m foir.segment.train_regions`: trains the region rules of `mini` on composed scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou
from tqdm import tqdm

from foir import encoders
from foir.errors import os_errors
from foir.playroom import compose
from foir.segment.merge_tree import merge_regions
from foir.segment.patch_features import PatchFeatures, patch_features
from foir.segment.regions import RULES_FILE, LogisticRule
from foir.terminal import Parser, path, run_command, write

SCENES, FIRST_SEED = 120, 900_000  # seeds that nothing else trains on
BACKGROUND, FOREGROUND = 0.1, 0.6  # object coverage of a patch: below is background, above is foreground
OBJECT_IOU = 0.6  # IoU from which a region counts as an object
MAX_PATCHES = 40_000
COMMAND = "python -m foir.segment.train_regions"
_Sample = tuple[PatchFeatures, np.ndarray, np.ndarray]  # features, object coverage of the patches, object boxes


def main(argv: Sequence[str] | None = None) -> int:
    """Train both rules and write them."""
    parser = Parser(prog=COMMAND, description=__doc__, epilog="Example: %(prog)s --scenes 120")
    parser.add_argument("--out", type=path, default=RULES_FILE)
    parser.add_argument("--scenes", type=int, default=SCENES)
    args = parser.parse_args(argv)
    return run_command(COMMAND, lambda: _run(args.out, args.scenes))


def _run(out: Path, scenes: int) -> None:
    with os_errors(f"{out} cannot be written"):
        out.write_text(json.dumps(train_rules(scenes)) + "\n", encoding="utf-8")
    write(f"{out} written")


def train_rules(scenes: int) -> dict[str, Any]:
    """The content of the rules file: both rules and the encoder they belong to."""
    encoder = encoders.load("mini", device="cpu")
    samples: list[_Sample] = []
    for number in tqdm(range(FIRST_SEED, FIRST_SEED + scenes), desc="scenes"):
        scene = compose("train", number)
        covered = Image.fromarray(np.logical_or.reduce([item.mask for item in scene.objects]).astype(np.float32))
        boxes = np.array([item.box for item in scene.objects]) / [*scene.image.size, *scene.image.size]
        for features in patch_features(encoder, scene.image):
            coverage = covered.resize(features.deep.shape[1::-1], Image.Resampling.BOX)
            samples.append((features, np.asarray(coverage), boxes))
    patch_rule = _train_patch_rule(samples)
    region_features, labels = [], []
    for features, _, boxes in samples:
        tree = merge_regions(features, patch_rule(features.deep))
        overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(tree.boxes)).numpy()
        region_features.append(tree.region_features)
        labels.append(overlaps.max(0) >= OBJECT_IOU)
    region_rule = fit_rule(np.concatenate(region_features), np.concatenate(labels))
    return {
        "encoder": [encoder.name, encoder.revision],
        "command": COMMAND,
        "scenes": scenes,
        "patch": _as_json(patch_rule),
        "region": _as_json(region_rule),
    }


def _train_patch_rule(samples: Sequence[_Sample]) -> LogisticRule:
    patches = np.concatenate([features.deep.reshape(-1, features.deep.shape[-1]) for features, _, _ in samples])
    coverage = np.concatenate([coverage.ravel() for _, coverage, _ in samples])
    clear = np.flatnonzero((coverage < BACKGROUND) | (coverage > FOREGROUND))
    subset = np.random.default_rng(0).permutation(clear)[:MAX_PATCHES]
    return fit_rule(patches[subset], coverage[subset] > FOREGROUND)


def fit_rule(features: np.ndarray, labels: np.ndarray) -> LogisticRule:
    """Fit a logistic rule to features [n, d] and labels, bool [n]."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0) + 1e-6
    model = LogisticRegression(C=1.0, max_iter=1000).fit((features - mean) / scale, labels)
    return LogisticRule(mean, scale, model.coef_[0], model.intercept_[0])


def _as_json(rule: LogisticRule) -> dict[str, Any]:
    vectors = {"mean": rule.mean, "scale": rule.scale, "weights": rule.weights}
    rounded = {name: [float(f"{value:.5g}") for value in vector] for name, vector in vectors.items()}
    return {**rounded, "bias": float(rule.bias)}


if __name__ == "__main__":
    raise SystemExit(main())
