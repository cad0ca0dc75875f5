"""A GPU that is lent call by call: the blocks run in a call of their own, and everything else gives the same."""

import importlib
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foir import Prompt, Searcher, Unavailable, encoders
from foir.encoders import zerogpu
from foir.search.query import Query
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene


@pytest.fixture
def zero(monkeypatch):
    """A stand-in for ZeroGPU: what is wrapped gets and gives pickled values only; gives the calls that were made."""
    calls = []

    def gpu(duration):
        def wrap(task):
            def call(*given):
                assert not any(isinstance(value, torch.Tensor) for value in given)
                made = task(*pickle.loads(pickle.dumps(given)))
                assert not any(isinstance(value, torch.Tensor) for value in made)
                calls.append((given[0], duration))
                return pickle.loads(pickle.dumps(made))

            return call

        return wrap

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as that package has it, where there is none
    importlib.reload(zerogpu)
    monkeypatch.setattr(zerogpu, "DEVICE", "cpu")
    yield calls
    monkeypatch.undo()
    importlib.reload(zerogpu)


def test_features_are_the_same_and_a_prompt_borrows_nothing(zero, toy):
    lent = encoders.load("toy")
    assert lent.device == "cpu" and zero == []
    assert (
        np.array_equal(lent.reference_feature(), toy.reference_feature()) and zero == []
    )  # checked before there is a GPU
    pixels = toy.pixels([scene(1), scene(2)])
    ours, theirs = toy.prefix(pixels), lent.prefix(pixels)
    assert zero == [(("toy", lent.revision), zerogpu.SECONDS)]
    assert torch.equal(ours.deep, theirs.deep) and torch.equal(ours.block.tokens, theirs.block.tokens)
    assert torch.equal(toy.finish(ours).vectors, lent.finish(theirs).vectors)
    assert len(zero) == 1


def test_a_picture_its_close_ups_and_its_heat_maps_borrow_once_each(zero, tmp_path, toy):
    from foir.app.controller import Controller
    from foir.app.sessions import Settings

    build(Plan(draw(tmp_path / "pictures", 12), tmp_path / "index", "toy", heads=True, device="cpu"))
    own = Searcher.load(tmp_path / "index", device="cpu")
    searcher = Searcher.load(tmp_path / "index")
    assert zero == []
    photo = tmp_path / "pictures" / "03.png"
    picture = searcher.open(photo)
    assert len(zero) == 1
    for method in ("phs", "attention_mask", "foveal"):
        ours = own.search(Query(own.open(photo), Prompt.box(20, 10, 80, 70), method=method, k=5))
        hits = searcher.search(Query(picture, Prompt.box(20, 10, 80, 70), method=method, k=5))
        assert [item.id for item in hits.items] == [item.id for item in ours.items]
        assert np.array_equal(hits.scores, ours.scores)
        assert len(zero) == 2  # once more, for the close-ups
    page = Controller(searcher.index, lambda: searcher)
    session = page.choose(3, Settings("phs", 2)).session
    session = page.point(session, {"boxes": [[20, 10, 80, 70]]}, session.token, Settings("phs", 2)).session
    del zero[:]
    page.heatmaps(session)
    assert len(zero) == 1
    page.heatmaps(session)
    assert len(zero) == 1


def test_models_that_borrow_nothing_stay_on_the_cpu(zero):
    assert encoders.resolve_device("auto") == "cpu"
    with pytest.raises(Unavailable):
        encoders.resolve_device("cuda")


def test_without_such_a_gpu_nothing_is_wrapped(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    monkeypatch.setitem(sys.modules, "spaces", None)  # importing it would fail
    importlib.reload(zerogpu)
    assert not encoders.has_zerogpu() and encoders.load("toy").remote_forward is None
