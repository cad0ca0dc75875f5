"""Who is looking at what: the sessions of all visitors, bounded in number and in time."""

from __future__ import annotations

import time
from collections import OrderedDict
from threading import Lock

from foir.app.sessions import Session
from foir.errors import FoirError

SESSIONS = 64  # each may take some hundred MB
HOUR = 3600


class SessionStore:
    """Sessions by their token, which nobody can guess. Safe to share between threads."""

    def __init__(self, most: int = SESSIONS, seconds: float = HOUR) -> None:
        """Keep at most so many, those that were used last, and none for longer after its last use."""
        self.most, self.seconds = most, seconds
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[Session, float]] = OrderedDict()

    def put(self, session: Session, before: str | None = None) -> str:
        """Keep a session in the place of the one that its visitor had before; returns its token."""
        with self._lock:
            self._kept.pop(before or "", None)
            self._kept[session.token] = (session, time.monotonic())
            self._kept.move_to_end(session.token)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
            self._sweep()
        return session.token

    def get(self, token: str | None) -> Session:
        """The session of a token.

        Raises:
            FoirError: It was forgotten, or never was.
        """
        with self._lock:
            self._sweep()
            found = self._kept.get(token or "")
        if found is None:
            raise FoirError("This page rested for long, or many others came: choose your picture again.")
        return found[0]

    def drop(self, token: str | None) -> None:
        """Drop a session, if it is still there."""
        with self._lock:
            self._kept.pop(token or "", None)
            self._sweep()

    def _sweep(self) -> None:
        oldest = time.monotonic() - self.seconds
        for token in [token for token, (_, used) in self._kept.items() if used < oldest]:
            del self._kept[token]
