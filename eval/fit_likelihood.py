"""`python -m eval.fit_likelihood --out FILE`: fits the model of `foir.search.likelihood` on the dev sets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from foir import encoders
from foir.regions.recipe import RegionRecipe
from foir.search.likelihood import FILE, Kind, LikelihoodModel
from foir.terminal import Parser, path, run_command, write

from . import datasets
from .datasets.base import Dataset
from .experiments.likelihood import JUDGED, Judged
from .experiments.results_cache import ResultsCache
from .metrics.calibration import brier_skill, calibration_error, precision_above, recall_above

DEV = ("playroom-dev", "voc12_part_dev")
LEAST_PRECISION = 0.85  # of what is called likely, on each dev set
THRESHOLDS = np.arange(0.3, 0.96, 0.05)


def main() -> int:
    """Fit; returns the exit status."""
    parser = Parser(prog="python -m eval.fit_likelihood", description="Fit how likely results hold the thing.")
    parser.add_argument("--out", type=path, default=FILE, help="the file with the model (that of foir)")
    parser.add_argument("--results", type=path, default=Path("results"), help="folder of earlier results")
    args = parser.parse_args()
    return run_command("eval.fit_likelihood", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    encoder = encoders.load("mini")
    results = ResultsCache(args.results / "kept")
    judged: dict[Kind, list[Judged]] = {
        kind: [make(datasets.load(name, Dataset), encoder, results) for name in DEV] for kind, make in JUDGED.items()
    }
    weights = {kind: fit(each) for kind, each in judged.items()}
    likely = least_likely([(own, weights["pointed"]) for own in judged["pointed"]])
    model = LikelihoodModel(
        encoder=encoder.name, revision=encoder.revision, way=RegionRecipe().way,
        pointed=tuple(weights["pointed"]), named=tuple(weights["named"]), likely=likely,
    )  # fmt: skip
    args.out.write_text(model.model_dump_json(indent=1) + "\n", "utf-8")
    for kind, each in judged.items():
        for name, own in zip(DEV, each, strict=True):
            flat = likelihoods(own, weights[kind]), own.holds.ravel().astype(float), np.ones(own.holds.size)
            measures = (brier_skill, calibration_error, precision_above(likely), recall_above(likely))
            values = (f"{measure(*flat):.3f}" for measure in measures)
            write(kind, name, *values)


def fit(judged: list[Judged]) -> np.ndarray:
    """Weights of the evidence; every data set and, in it, every query counts the same."""
    evidence = np.concatenate([own.evidence.reshape(-1, own.evidence.shape[-1]) for own in judged])
    holds = np.concatenate([own.holds.ravel() for own in judged])
    weights = np.concatenate([np.full(own.holds.size, 1 / own.holds.size) for own in judged])
    model = LogisticRegression(fit_intercept=False, C=1e4, max_iter=1000)
    model.fit(evidence, holds, sample_weight=weights * len(holds) / weights.sum())
    return np.asarray(model.coef_[0])


def least_likely(fitted: list[tuple[Judged, np.ndarray]]) -> float:
    """The least threshold above which enough results hold the thing on each data set."""
    for threshold in THRESHOLDS.tolist():
        precise = precision_above(threshold)
        found = (precise(likelihoods(own, w), own.holds.ravel(), np.ones(own.holds.size)) for own, w in fitted)
        if min(found) >= LEAST_PRECISION:
            break
    return round(float(threshold), 2)


def likelihoods(judged: Judged, weights: np.ndarray) -> np.ndarray:
    """Of all results, [queries * K]."""
    return np.asarray(1 / (1 + np.exp(-(judged.evidence @ weights).ravel())))


if __name__ == "__main__":
    raise SystemExit(main())
