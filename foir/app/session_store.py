"""Store of the sessions of all users, bounded in number and in time."""

from __future__ import annotations

import time
from threading import Lock

from cachetools import TTLCache

from foir.app.sessions import Session
from foir.errors import FoirError

MAX_SESSIONS = 64  # each may take some hundred MB
HOUR = 3600


class SessionStore:
    """Sessions by their token, which nobody can guess. Thread-safe."""

    def __init__(self, max_sessions: int = MAX_SESSIONS, seconds: float = HOUR) -> None:
        """Start empty.

        Args:
            max_sessions: Number of sessions to keep; the least recently used one is dropped first.
            seconds: Time to keep a session after it was last stored.
        """
        self._lock = Lock()
        self._sessions: TTLCache[str, Session] = TTLCache(max_sessions, seconds, timer=time.monotonic)

    def put(self, session: Session, previous: str | None = None) -> str:
        """Store a session in place of the user's previous one; returns its token."""
        with self._lock:
            self._sessions.pop(previous or "", None)
            self._sessions[session.token] = session  # this also deletes expired sessions
        return session.token

    def get(self, token: str | None) -> Session:
        """Return the session of a token.

        Raises:
            FoirError: The session expired, or the token is unknown.
        """
        with self._lock:
            self._sessions.expire()
            session = self._sessions.get(token or "")
        if session is None:
            raise FoirError("Your session expired: choose your image again.")
        return session

    def drop(self, token: str | None) -> None:
        """Delete a session, if it still exists."""
        with self._lock:
            self._sessions.pop(token or "", None)
            self._sessions.expire()
