"""The server's connections: bounded in number, closed where a client stays silent, and quiet in the log.

Of a client that sends half a request and waits, only the oldest connections are lost, so it cannot keep others out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from heapq import nsmallest
from typing import Any

import h11
from gradio.http_server import Server
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from foir.app.proxies import Proxies
from foir.index.spaces import raise_file_limit

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MAX_CONNECTIONS = 1024
MAX_PER_ADDRESS = 256  # of them; a browser opens six
OPEN_FILES = 65_536  # asked of the system; it may allow fewer
SPARE_FILES = 512  # descriptors for everything else: collections, uploads, and connections before they are counted
BACKLOG = 128  # connections that asyncio accepts before it counts any; with each failure it writes to the log
QUEUE = 2048  # connections that wait in the system until they are accepted
HEADER_SECONDS = 10.0  # to send the head of a request
BODY_SECONDS, BODY_RATE = 20.0, 20_000  # to send its body: so many seconds, and one more for so many bytes
READ_SECONDS = 60.0  # to read some of the answer
TICKS = 10  # of a tenth of a second, between two looks for late connections
CLOSED_AT_ONCE = 16  # so that room is not looked for with every connection


class BoundedProtocol(H11Protocol):
    """One connection, which knows since when it waits for its client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._proxies = Proxies()
        self._stage: tuple[object, object] = (None, None)
        self.waits_since = time.monotonic()
        self._stalled_since: float | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, if need be in place of ones that wait; refuse it where none waits."""
        others = [each for each in self.connections if isinstance(each, BoundedProtocol)]
        super().connection_made(transport)
        address = _address(self)
        same = [] if address in self._proxies else [each for each in others if _address(each) == address]
        if not (_has_room(same, MAX_PER_ADDRESS) and _has_room(others, max_connections())):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a body."""
        self._received += len(data)
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note since when the client reads nothing."""
        self._stalled_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client read again."""
        self._stalled_since = None
        super().resume_writing()

    @property
    def waits(self) -> bool:
        """Whether the client has to send something before the server can go on."""
        if self.conn.their_state is h11.SEND_BODY:
            return not self.flow.read_paused
        return self.conn.their_state is h11.IDLE

    def close_if_late(self, now: float) -> None:
        """Close the connection where its client took too long."""
        stage = (self.conn.their_state if self.waits else None, self.cycle)
        if stage != self._stage:
            self._stage, self.waits_since, self._received = stage, now, 0
        sends_body = self.conn.their_state is h11.SEND_BODY
        seconds = BODY_SECONDS + self._received / BODY_RATE if sends_body else HEADER_SECONDS
        is_silent = self.waits and now - self.waits_since > seconds
        if is_silent or (self._stalled_since is not None and now - self._stalled_since > READ_SECONDS):
            self.transport.abort()


class BoundedServer(Server):
    """Gradio's server with bounded connections."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        config.http, config.ws, config.backlog = BoundedProtocol, "none", BACKLOG
        config.proxy_headers = False  # uvicorn would believe every program of this machine
        raise_file_limit(OPEN_FILES)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each request that is none fills disks
        super().__init__(config, *args, **kwargs)

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        """Listen; asyncio would let no more wait in the system than it accepts at a time."""
        await super().startup(*args, **kwargs)
        for listener in (listener for server in self.servers for listener in server.sockets):
            with listener.dup() as same:
                same.listen(QUEUE)

    async def on_tick(self, counter: int) -> bool:
        """Close late connections."""
        if counter % TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.close_if_late(now)
        return await super().on_tick(counter)


def max_connections() -> int:
    """How many connections the system's limit of open files allows."""
    if resource is None:
        return MAX_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, soft - SPARE_FILES), soft // 4)
    )


def _has_room(connections: list[BoundedProtocol], limit: int) -> bool:
    """Whether one more may come; where they are too many, the longest waiting ones are closed."""
    if len(connections) < limit:
        return True
    waiting = [each for each in connections if each.waits and not each.transport.is_closing()]
    # A body is lost last: it is most of an upload, and its time is bounded.
    oldest = nsmallest(
        CLOSED_AT_ONCE, waiting, key=lambda each: (each.conn.their_state is h11.SEND_BODY, each.waits_since)
    )
    for each in oldest:
        each.transport.abort()
    return bool(oldest)


def _address(connection: BoundedProtocol) -> str:
    return connection.client[0] if connection.client else ""
