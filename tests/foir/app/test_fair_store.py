"""The store that is shared: who fills it loses their own."""

import pytest

from foir.app.clients import Client
from foir.app.fair_store import Capacity, FairStore
from tests.foir.app.standins import ANN, BOB, FAR, Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def dropped():
    return []


@pytest.fixture
def store(clock, dropped):
    capacities = {"client": Capacity(3, 100), "everyone": Capacity(6, 180)}
    return FairStore(capacities, 60, timer=clock, on_drop=lambda key, value: dropped.append(key))


def test_a_client_with_too_many_loses_the_least_recently_used_of_its_own(store, dropped):
    store.put("bob", 0, BOB)
    for number in range(3):
        store.put(f"ann {number}", number, ANN)
    assert store.get("ann 0") == 0
    store.put("ann 3", 3, ANN)
    assert dropped == ["ann 1"] and store.get("bob") == 0


def test_bytes_count_too(store, dropped):
    store.put("bob", 0, BOB, 10)
    store.put("ann 0", 0, ANN, 60)
    store.put("ann 1", 1, ANN, 60)
    assert dropped == ["ann 0"]
    store.put("ann 2", 2, ANN, 101)  # more than a client may store
    assert store.get("ann 2") is None and store.get("bob") == 0


def test_a_full_store_takes_from_who_holds_most(store, dropped):
    store.put("far", 0, FAR, 30)
    for number in range(40):  # one client after the other at one address
        store.put(str(number), number, Client("home", str(number)), 30)
    assert store.get("far") == 0 and len(store) == 6 and dropped == [str(number) for number in range(35)]
    store.put("far 2", 0, FAR, 30)
    assert store.get("far") == 0 and dropped[-1] == "35"


def test_who_has_no_session_counts_by_address_alone(store, dropped):
    store.put("ann", 0, ANN)
    for number in range(6):
        store.put(str(number), number, Client("elsewhere"))
    assert dropped == ["0"] and store.get("ann") == 0


def test_each_use_counts(store, clock, dropped):
    store.put("used", 1, ANN)
    store.put("idle", 2, ANN)
    for clock.now in (40.0, 80.0, 120.0):
        assert store.get("used") == 1
    assert store.get("idle") is None and dropped == ["idle"]
    clock.now = 181.0
    store.expire()
    assert len(store) == 0


def test_what_is_removed_or_replaced_is_not_dropped(store, dropped):
    store.put("one", 1, ANN)
    store.put("one", 2, ANN)
    assert store.pop("one") == 2 and store.pop("one") is None and dropped == []
