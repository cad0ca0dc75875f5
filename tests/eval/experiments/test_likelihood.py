"""Likelihoods of results, fitted and measured on a small set, against the product's own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eval import datasets, fit_likelihood
from eval.experiments import likelihood as table
from eval.experiments.likelihood import Likelihood, Searches, likelihoods_of, named, pointed
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import RunContext
from eval.metrics.calibration import brier_skill, calibration_error
from foir import Unavailable, encoders
from foir.regions.recipe import RegionRecipe
from foir.search import likelihood


@pytest.fixture
def kept(tmp_path):
    return ResultsCache(tmp_path / "kept")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(table, "K", 6)


def test_the_first_results_and_their_evidence(made, toy, kept):
    searches = pointed(made, toy, kept)
    judged = searches.first()
    assert judged.evidence.shape == (len(judged.images), 6, 9) and judged.holds.shape == (len(judged.images), 6)
    assert (judged.evidence[..., 0] < 0.999).all()  # no picture finds itself
    assert 0 < judged.holds.mean() < 1
    rare = searches.first(0.01)
    assert (rare.holds.sum(1) <= 1).all() and rare.holds.any()


def test_names_need_no_picture(made, kept):
    encoder = encoders.load("toy-words", device="cpu")
    searches = named(replace(made, category_words=(("thing 0", "thing 4"), ("thing 1",), (), ())), encoder, kept)
    assert searches.first().evidence.shape == (3, 6, 9)
    with pytest.raises(Unavailable, match="no names"):
        named(replace(made, category_words=((), (), (), ())), encoder, kept)


def test_a_fit_is_calibrated_where_it_was_fitted(monkeypatch):
    """Pictures that hold the thing have larger scores; how many do differs from query to query."""
    rng = np.random.default_rng(0)
    holds = rng.random((120, 200)) < rng.uniform(0.02, 0.2, 120)[:, None]
    best = rng.normal(0.3, 0.05, holds.shape) + 0.12 * holds
    searches = Searches(best, best, holds, np.arange(120))
    network = fit_likelihood.fit([searches])
    for kept in (1.0, 0.3):
        judged = searches.first(kept, 7)
        flat = likelihoods_of(network, judged).ravel(), judged.holds.ravel().astype(float), np.ones(judged.holds.size)
        assert brier_skill(*flat) > 0.2 and calibration_error(*flat) < 0.08
    least = fit_likelihood.least_likely(network, [searches.first()])
    found = likelihoods_of(network, searches.first())
    assert 0.4 <= least <= 0.95 and searches.first().holds[found >= least].mean() >= 0.85


def test_from_fit_to_table(made, tmp_path, monkeypatch, kept):
    encoder = encoders.load("toy-words", device="cpu")
    spoken = replace(made, category_words=tuple((f"thing {i}",) for i in range(4)))
    monkeypatch.setattr(datasets, "load", lambda name, kind: spoken)
    monkeypatch.setattr(encoders, "load", lambda name, **options: encoder)
    monkeypatch.setattr("sys.argv", ["fit", "--out", str(tmp_path / "fit.json"), "--results", str(tmp_path)])
    assert fit_likelihood.main() == 0
    facts = json.loads((tmp_path / "fit.json").read_text())
    assert (facts["encoder"], facts["revision"], facts["way"]) == (encoder.name, encoder.revision, RegionRecipe().way)
    monkeypatch.setattr(likelihood, "FILE", tmp_path / "fit.json")
    for kind in ("pointed", "named"):
        cells = Likelihood("made", "", (), (), kind=kind).measure(spoken, encoder, RunContext(results=tmp_path))
        assert [cell.metric for cell in cells[:2]] == ["Brier skill", "calibration error"]
        assert all(cell.value is not None and np.isfinite(cell.value) for cell in cells)
    monkeypatch.setattr(likelihood, "FILE", tmp_path / "none.json")
    with pytest.raises(Unavailable, match="No likelihood is fitted"):
        Likelihood("made", "", (), ()).measure(spoken, encoder, RunContext(results=tmp_path))
