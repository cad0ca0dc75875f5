"""Store of the sessions of all users, bounded in number, in bytes and in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from PIL import Image

from foir.app.clients import Client
from foir.app.fair_store import Capacity, FairStore
from foir.app.sessions import Session
from foir.errors import FoirError

HOUR = 3600
SESSIONS = {"client": Capacity(4, 256e6), "everyone": Capacity(256, 2e9)}


class SessionStore:
    """Sessions by their token, which nobody can guess. Thread-safe."""

    def __init__(
        self,
        capacities: Mapping[str, Capacity] = SESSIONS,
        seconds: float = HOUR,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            capacities: Sessions and bytes of each client and of everyone; see `FairStore`.
            seconds: Time to keep a session after its last use.
            timer: Tells the time in seconds.
        """
        self._sessions = FairStore[Session](capacities, seconds, timer=timer)

    def put(self, session: Session, previous: str | None = None, client: Client | None = None) -> str:
        """Store a client's session in place of a previous one; returns its token."""
        self._sessions.pop(previous or "")
        self._sessions.put(session.token, session, client or Client(), session_bytes(session))
        return session.token

    def get(self, token: str | None) -> Session:
        """Return the session of a token; this counts as a use.

        Raises:
            FoirError: The session expired, or the token is unknown.
        """
        session = self._sessions.get(token or "")
        if session is None:
            raise FoirError("Your session expired: choose your image again.")
        return session

    def drop(self, token: str | None) -> None:
        """Delete a session, if it still exists."""
        self._sessions.pop(token or "")


def session_bytes(session: Session) -> int:
    """Bytes of the images, arrays and tensors that a session keeps; those it shares with itself count once."""
    seen: dict[int, int] = {}

    def visit(value: Any) -> None:
        if id(value) in seen:
            return
        if isinstance(value, Image.Image):
            seen[id(value)] = value.width * value.height * (1 if value.mode == "L" else 4)  # RGB takes 4 bytes a pixel
        elif hasattr(value, "nbytes"):
            seen[id(value)] = value.nbytes
        elif isinstance(value, bytes):
            seen[id(value)] = len(value)
        elif is_dataclass(value):
            for field in fields(value):
                visit(getattr(value, field.name))
        elif isinstance(value, Mapping):
            visit(tuple(value.values()))
        elif isinstance(value, tuple | list):
            for part in value:
                visit(part)

    visit(session)
    return sum(seen.values())
