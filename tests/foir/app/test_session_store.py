"""The store of sessions: bounded for each visitor, and as long-lived as they are active."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foir import FoirError
from foir.app.fair_store import Capacity
from foir.app.session_store import HOUR, SESSIONS, SessionStore, session_bytes
from foir.app.sessions import Session
from foir.images import Photo
from foir.search.results import QueryImage, SearchResults
from tests.foir.app.standins import ANN, BOB, Clock


def opened(side=100):
    """A session with a picture of so many pixels a side."""
    photo = Photo(Image.new("RGB", (side, side)))
    nothing: Any = SimpleNamespace()
    return Session(QueryImage(photo, nothing, nothing), "mine", (b"x" * 10, (1, 1)))


def test_a_session_is_kept_while_it_is_used():
    clock = Clock()
    store = SessionStore(timer=clock)
    token, idle = store.put(opened(), None, ANN), store.put(opened(), None, BOB)
    for clock.now in np.arange(1, 6) * 0.9 * HOUR:
        assert store.get(token)
    with pytest.raises(FoirError, match="expired"):
        store.get(idle)


def test_one_visitor_cannot_displace_another():
    store = SessionStore()
    other = store.put(opened(), None, BOB)
    tokens = [store.put(opened(), None, ANN) for _ in range(64)]
    assert store.get(other)
    for token in tokens[:-4]:
        with pytest.raises(FoirError, match="expired"):
            store.get(token)
    assert all(store.get(token) for token in tokens[-4:])


def test_a_step_takes_the_place_of_the_last_one():
    store = SessionStore()
    first = store.put(opened(), None, ANN)
    second = store.put(opened(), first, ANN)
    with pytest.raises(FoirError, match="expired"):
        store.get(first)
    store.drop(second)
    with pytest.raises(FoirError, match="expired"):
        store.get(second)


def test_sessions_have_a_budget_of_bytes():
    store = SessionStore({"client": Capacity(4, 100_000), "everyone": Capacity(9, 150_000)})
    other = store.put(opened(), None, BOB)
    small, large = store.put(opened(), None, ANN), store.put(opened(150), None, ANN)
    with pytest.raises(FoirError, match="expired"):
        store.get(small)
    assert store.get(large) and store.get(other)
    assert SESSIONS["everyone"].bytes <= 2e9


def test_all_that_a_session_keeps_is_counted_once():
    assert session_bytes(opened()) == 100 * 100 * 4 + 10
    tensor, scores = torch.zeros(10), np.zeros(3, np.float32)
    results = SearchResults((), scores, None, None, False, None, True, ())
    session = opened()
    session = Session(session.image, "", (b"", (1, 1)), ({"a": tensor}, {"b": tensor}), results=results)
    assert session_bytes(session) == 100 * 100 * 4 + 40 + 12
