"""Query-DB in two stages: the guess is exact where it should be, and the shortlist finds what the exact scan finds."""

from typing import Any

import numpy as np
import pytest
import torch

from foir import Prompt, encoders
from foir.encoders.intervention import HeadGate
from foir.index import Space
from foir.ranking import head_cache
from foir.ranking.candidates import candidates
from foir.ranking.shortlist import Shortlist
from foir.search.query import Feedback, Query
from tests.conftest import speaking_searcher

GATES = (
    HeadGate((3.0, 0.0, 0.0, 3.0, 0.0, 0.0)),
    HeadGate((1.0, 1.0, 0.0, 1.0, 1.0, 0.0)),
    HeadGate((1.0,) * 6, after=(1.2, 0.0, 1.2, 1.2, 1.2, 1.2)),
    HeadGate((1.0,) * 6),
)


@pytest.fixture(scope="module", params=["toy", "clip"])
def opened(request):
    if request.param == "toy":
        return encoders.load("toy", device="cpu")
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from foir.encoders import clip

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_attention_heads=6, num_hidden_layers=2, image_size=32, patch_size=8,
        projection_dim=24, initializer_range=0.3,
    )  # fmt: skip
    return clip.wrap(CLIPVisionModelWithProjection(config), "small", "made", projected=True)


def made_space(opened):
    rng = np.random.default_rng(0)
    z, residual = rng.normal(size=(700, 6, 8)).astype(np.float32), rng.normal(size=(700, 48)).astype(np.float32)
    vectors = opened.tail(torch.from_numpy(z), torch.from_numpy(residual)).numpy()
    cut = [0, 300, 301, 700]
    parts = [(vectors[a:b], z[a:b], residual[a:b]) for a, b in zip(cut, cut[1:], strict=False)]
    shards, zs, residuals = (tuple(part) for part in zip(*parts, strict=True))
    return Space(opened.name, opened.revision, np.empty(0), shards, zs, residuals)


@pytest.fixture(scope="module")
def space(opened):
    return made_space(opened)


def queries(opened, space, gate):
    features = np.concatenate(list(head_cache.features(opened, space, gate)))
    mixed = features[[3, 300, 650]] + 0.3 * features[[9, 10, 11]]
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


@pytest.mark.parametrize("gate", GATES)
def test_a_shortlist_of_everything_is_the_exact_scan(opened, space, gate):
    stage = Shortlist(opened, space)
    for vector in queries(opened, space, gate):
        found = stage.search(gate, vector, 20, count=700)
        exact = head_cache.search(opened, space, [gate], vector[None], 20)
        np.testing.assert_array_equal(found.rows, exact.rows)
        np.testing.assert_allclose(found.scores, exact.scores, atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
def test_a_fifth_of_the_pictures_holds_the_best(opened, space, gate):
    stage, recalls = Shortlist(opened, space), []
    for vector in queries(opened, space, gate):
        exact = head_cache.search(opened, space, [gate], vector[None], 10).rows[0]
        recalls.append(np.isin(exact, stage.candidates(gate, vector, 140)).mean())
    assert np.mean(recalls) >= 0.9


def test_a_large_index_is_searched_in_two_stages(folder, tmp_path, monkeypatch):
    from foir import Prompt, Searcher
    from foir.ranking import shortlist
    from index_build.pipeline import Plan, build

    build(Plan(folder, tmp_path / "index", "toy", heads=True, device="cpu"))
    searcher = Searcher.load(tmp_path / "index", device="cpu")
    picture = searcher.open(folder / "a" / "01.png")
    wish: dict[str, Any] = {"prompt": Prompt.box(10, 10, 90, 80), "options": {"h_on": 2}, "mode": "query-db", "k": 5}
    exact = searcher.search(Query(picture, **wish))
    monkeypatch.setattr(shortlist, "LARGE", 5)
    monkeypatch.setattr(head_cache, "search", None)  # the exact scan must not be called
    again = searcher.search(Query(picture, **wish))
    assert again.items == exact.items
    np.testing.assert_allclose(again.scores, exact.scores, atol=1e-5)


def test_with_all_heads_on_the_guess_is_the_score(opened, space):
    """Nothing is approximated then: the guess ranks exactly as the features do."""
    stage, gate = Shortlist(opened, space), HeadGate((1.0,) * 6)
    vectors = np.concatenate(space.shards)
    for vector in queries(opened, space, gate):
        best = np.sort(np.argsort(-(vectors @ vector), kind="stable")[:50])
        np.testing.assert_array_equal(stage.candidates(gate, vector, 50), best)


def test_of_very_many_pictures_query_db_looks_at_those_that_are_near(tmp_path, monkeypatch):
    """The same as an index of those alone; here they are all."""
    searcher = speaking_searcher(tmp_path, 30)
    picture = searcher.open(searcher.index.picture(searcher.index.get(3)))
    how: Any = {"prompt": Prompt.box(20, 10, 80, 70), "mode": "query-db", "options": {"h_on": 2}, "k": 5}
    asked: list[Any] = [{}, {"text": "thing 6"}, {"feedback": Feedback(liked=[7], disliked=[9])}, {"exclude": [3]}]
    whole = [searcher.search(Query(picture, **how, **more)) for more in asked]
    monkeypatch.setattr("foir.ranking.candidates.MAX_HEAD_CACHE", 10)
    near = [searcher.search(Query(picture, **how, **more)) for more in asked]
    for ours, theirs in zip(near, whole, strict=True):
        assert ours.items == theirs.items
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)  # one scan is in half precision
    vectors = {"image": [searcher.index.vectors("image", [3])[0]]}
    part = candidates(searcher.index, vectors, 4, ids=[9], head_cache=True)
    assert 4 <= len(part) <= 5 and 3 in part and 9 in part
    assert part.get(9) == searcher.index.get(9)
