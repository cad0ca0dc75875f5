"""`python -m eval.fit_likelihood --out FILE`: fits the model of `foir.search.likelihood` on the dev sets."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from foir import encoders
from foir.regions.recipe import RegionRecipe
from foir.search.likelihood import FILE, Layer, LikelihoodModel, Network
from foir.terminal import Parser, path, run_command, write

from . import datasets
from .datasets.base import Dataset
from .experiments.likelihood import SEARCHES, Judged, Searches, likelihoods_of
from .experiments.results_cache import ResultsCache
from .metrics.calibration import brier_skill, calibration_error, precision_above, recall_above

DEV = ("playroom-dev-instances", "voc12_part_dev")  # a ship is no ring buoy, though both are of one category
# Things are made rarer than they are on the dev sets, since collections differ most in how many pictures hold a thing:
# share of the pictures that are kept, and how often, against things as they are.
RARER = ((1.0, 1.0), (0.3, 0.4), (0.1, 0.4), (0.03, 0.2))
SMALLEST = 0.3  # share of a gallery that is searched, since collections differ in size too
HIDDEN, DIGITS = (32, 32), 4
LEAST_PRECISION = 0.85  # of what is called likely, on each dev set with things as they are and three times as rare
THRESHOLDS = np.arange(0.4, 0.96, 0.05)


def main() -> int:
    """Fit; returns the exit status."""
    parser = Parser(prog="python -m eval.fit_likelihood", description="Fit how likely results hold the thing.")
    parser.add_argument("--out", type=path, default=FILE, help="the file with the model (that of foir)")
    parser.add_argument("--results", type=path, default=Path("results"), help="folder of earlier results")
    args = parser.parse_args()
    return run_command("eval.fit_likelihood", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    encoder = encoders.load("mini", dtype="auto")
    results = ResultsCache(args.results / "kept")
    data = [datasets.load(name, Dataset) for name in DEV]
    searches = {kind: [make(each, encoder, results) for each in data] for kind, make in SEARCHES.items()}
    networks = {kind: fit(each) for kind, each in searches.items()}
    likely = least_likely(networks["pointed"], [own.first(kept) for own in searches["pointed"] for kept in (1.0, 0.3)])
    model = LikelihoodModel(
        encoder=encoder.name, revision=encoder.revision, way=RegionRecipe().way,
        pointed=networks["pointed"], named=networks["named"], likely=likely,
    )  # fmt: skip
    args.out.write_text(model.model_dump_json() + "\n", "utf-8")
    for kind, each in searches.items():
        for name, own in zip(DEV, each, strict=True):
            for kept, _ in RARER:
                judged = own.first(kept)
                flat = _flat(networks[kind], judged)
                measures = (brier_skill, calibration_error, precision_above(likely), recall_above(likely))
                write(kind, name, f"{kept:g}", *(f"{measure(*flat):.3f}" for measure in measures))


def fit(searches: Sequence[Searches]) -> Network:
    """A network fitted on all results of all searches, with things as rare as `RARER` says."""
    rng, evidence, holds = np.random.default_rng(0), [], []
    for own in searches:
        for seed, (kept, share) in enumerate(RARER):
            judged = own.first(kept, seed, SMALLEST)
            chosen = rng.random(len(judged.images)) < share
            evidence.append(judged.evidence[chosen].reshape(-1, judged.evidence.shape[-1]))
            holds.append(judged.holds[chosen].ravel())
    inputs = np.concatenate(evidence)
    mean, deviation = inputs.mean(0).round(DIGITS), np.maximum(inputs.std(0), 1e-3).round(DIGITS)
    model = MLPClassifier(HIDDEN, alpha=1e-2, batch_size=512, learning_rate_init=3e-3, max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops early on purpose
        model.fit((inputs - mean) / deviation, np.concatenate(holds))
    layers = tuple(
        Layer(weight=tuple(map(tuple, weight.round(DIGITS).tolist())), bias=tuple(bias.round(DIGITS).tolist()))
        for weight, bias in zip(model.coefs_, model.intercepts_, strict=True)
    )
    return Network(mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()), layers=layers)


def least_likely(network: Network, judged: Sequence[Judged]) -> float:
    """The least threshold above which enough results hold the thing everywhere."""
    for threshold in THRESHOLDS.tolist():
        precise = precision_above(threshold)
        if min(precise(*_flat(network, own)) for own in judged) >= LEAST_PRECISION:
            break
    return round(float(threshold), 2)


def _flat(network: Network, judged: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likelihood, truth and weight of each result."""
    return likelihoods_of(network, judged).ravel(), judged.holds.ravel().astype(float), np.ones(judged.holds.size)


if __name__ == "__main__":
    raise SystemExit(main())
