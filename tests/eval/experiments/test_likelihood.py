"""Likelihoods of results, fitted and measured on a small set, against the product's own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eval import datasets, fit_likelihood
from eval.experiments import likelihood as table
from eval.experiments.likelihood import Judged, Likelihood, named, pointed
from eval.experiments.results_cache import ResultsCache
from eval.experiments.specs import RunContext
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
    judged = pointed(made, toy, kept)
    assert judged.evidence.shape == (len(judged.images), 6, 4) and judged.holds.shape == (len(judged.images), 6)
    _, scores, standard, best = np.moveaxis(judged.evidence, -1, 0)
    assert (scores <= 1.001).all() and (standard <= best + 1e-6).all()
    assert (scores < 0.999).all()  # no picture finds itself
    assert 0 < judged.holds.mean() < 1


def test_names_need_no_picture(made, kept):
    encoder = encoders.load("toy-words", device="cpu")
    judged = named(replace(made, category_words=(("thing 0", "thing 4"), ("thing 1",), (), ())), encoder, kept)
    assert judged.evidence.shape == (3, 6, 4)
    with pytest.raises(Unavailable, match="no names"):
        named(replace(made, category_words=((), (), (), ())), encoder, kept)


def test_a_fit_is_calibrated_where_it_was_fitted():
    rng = np.random.default_rng(0)
    evidence = np.concatenate([np.ones((300, 6, 1)), rng.normal(size=(300, 6, 3))], 2)
    truth = np.array([-1.0, 0.5, 2.0, -0.5])
    holds = rng.random((300, 6)) < 1 / (1 + np.exp(-evidence @ truth))
    found = fit_likelihood.fit([Judged(evidence, holds, np.arange(300))])
    np.testing.assert_allclose(found, truth, atol=0.25)
    assert fit_likelihood.least_likely([(Judged(evidence, holds, np.arange(300)), found)]) in np.round(
        fit_likelihood.THRESHOLDS, 2
    )


def test_from_fit_to_table(made, tmp_path, monkeypatch, kept):
    encoder = encoders.load("toy-words", device="cpu")
    spoken = replace(made, category_words=tuple((f"thing {i}",) for i in range(4)))
    monkeypatch.setattr(datasets, "load", lambda name, kind: spoken)
    monkeypatch.setattr(fit_likelihood.encoders, "load", lambda name: encoder)
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
