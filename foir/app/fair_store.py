"""A bounded store: who fills it loses what is theirs, not what is another's."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Generic, TypeVar

from foir.app.clients import Client

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Capacity:
    """What a client, or everyone together, may store: a number of values, and bytes."""

    count: float = float("inf")
    bytes: float = float("inf")


@dataclass
class _Entry(Generic[V]):
    value: V
    client: Client
    size: int
    used: float


class FairStore(Generic[V]):
    """Values by key, each of a client; the least recently used ones are dropped. Thread-safe.

    A client with too much loses its own. A full store takes from the address that holds most, and there from the client
    that holds most.
    """

    def __init__(
        self,
        capacities: Mapping[str, Capacity],
        seconds: float = float("inf"),
        *,
        timer: Callable[[], float] = time.monotonic,
        on_drop: Callable[[str, V], None] = lambda key, value: None,
    ) -> None:
        """Start empty.

        Args:
            capacities: What each "client" and what "everyone" may store; see `Client.groups`.
            seconds: Time to keep a value after its last use.
            timer: Tells the time in seconds.
            on_drop: Called with each key and value that is dropped for space or time.
        """
        self._capacities, self._seconds, self._timer, self._on_drop = capacities, seconds, timer, on_drop
        self._lock = RLock()
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, value: V, client: Client, size: int = 0) -> None:
        """Store a value of a client and its size in bytes."""
        with self._lock:
            self.expire()
            self._entries.pop(key, None)
            self._entries[key] = _Entry(value, client, size, self._timer())
            for level in ("client", "everyone"):
                if level in client.groups:
                    while self._is_over(level, client):
                        self._drop(self._victim(level, client))

    def get(self, key: str) -> V | None:
        """Return a value, if it is still stored; this counts as a use."""
        with self._lock:
            self.expire()
            entry = self._entries.get(key)
            if entry is None:
                return None
            entry.used = self._timer()
            self._entries.move_to_end(key)
            return entry.value

    def pop(self, key: str) -> V | None:
        """Remove and return a value, if it is still stored."""
        with self._lock:
            entry = self._entries.pop(key, None)
            self.expire()
            return None if entry is None else entry.value

    def expire(self) -> None:
        """Drop what was not used for too long."""
        with self._lock:
            while self._entries:
                key, entry = next(iter(self._entries.items()))
                if self._timer() - entry.used <= self._seconds:
                    return
                self._drop(key)

    def _is_over(self, level: str, client: Client) -> bool:
        capacity, group = self._capacities[level], client.groups[level]
        sizes = [entry.size for entry in self._entries.values() if entry.client.groups.get(level) == group]
        return bool(sizes) and (len(sizes) > capacity.count or sum(sizes) > capacity.bytes)

    def _victim(self, level: str, client: Client) -> str:
        """The least recently used key of the client, or of whoever holds most."""
        if level == "everyone":
            address = self._heaviest(lambda other: other.address)
            client = self._heaviest(lambda other: other if other.address == address else None)
        return next(key for key, entry in self._entries.items() if entry.client == client)

    def _heaviest(self, group: Callable[[Client], K | None]) -> K:
        """The group with the largest share of the capacity; None is no group. Of equal ones the one that is idle."""
        total, shares = self._capacities["everyone"], dict[K, float]()
        for entry in self._entries.values():
            if (name := group(entry.client)) is not None:
                shares[name] = shares.get(name, 0) + 1 / total.count + entry.size / total.bytes
        return max(shares, key=shares.__getitem__)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        self._on_drop(key, entry.value)
