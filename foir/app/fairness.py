"""Token buckets: how much a client may ask for in a time, and the guard of the bytes that it sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foir.app.clients import Client, client_of

MAX_BUCKETS = 20_000  # clients and addresses that are remembered


@dataclass(frozen=True)
class Rate:
    """A bucket's content, which a client may use at once, and what flows into it in a second."""

    burst: float
    per_second: float


# Many people may share an address, so its limits are looser: a class of 30, each with the largest image.
EVENT_RATES = {"client": Rate(40, 4), "address": Rate(400, 40)}
BYTE_RATES = {"client": Rate(64e6, 64e6 / 60), "address": Rate(768e6, 768e6 / 60)}


class TokenBuckets:
    """What clients and addresses may still use. Thread-safe."""

    def __init__(self, rates: Mapping[str, Rate], timer: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets.

        Args:
            rates: Rates by level; see `Client.groups`.
            timer: Tells the time in seconds.
        """
        self._rates, self._timer, self._lock = rates, timer, Lock()
        self._buckets: LRUCache[tuple[str, Client], tuple[float, float]] = LRUCache(MAX_BUCKETS)

    def take(self, client: Client, amount: float) -> bool:
        """Take an amount from all buckets of a client; from none and False if one holds less."""
        now = self._timer()
        with self._lock:
            left = {}
            for level, group in client.groups.items():
                if level in self._rates:
                    rate = self._rates[level]
                    tokens, then = self._buckets.get((level, group), (rate.burst, now))
                    left[level, group] = min(rate.burst, tokens + (now - then) * rate.per_second) - amount
            if any(tokens < 0 for tokens in left.values()):
                return False
            self._buckets.update({key: (tokens, now) for key, tokens in left.items()})
        return True


class ByteQuota:
    """Middleware that refuses the bodies of a client that sends too many bytes a minute."""

    def __init__(self, app: ASGIApp) -> None:
        """Start with full buckets."""
        self.app, self._buckets = app, TokenBuckets(BYTE_RATES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        client, length, started = client_of(scope), Headers(scope=scope).get("content-length"), False
        refusal = JSONResponse({"detail": "You sent too much at once: try again in a minute."}, 429)
        if length is not None and not self._buckets.take(client, int(length)):
            return await refusal(scope, receive, send)

        async def counted_receive() -> Message:
            message = await receive()
            if length is None and not self._buckets.take(client, len(message.get("body", b""))):
                raise _QuotaExceeded
            return message

        async def noticed_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted_receive, noticed_send)
        except _QuotaExceeded:
            if not started:
                await refusal(scope, receive, send)


class _QuotaExceeded(Exception):
    """A body without a stated length became too long."""
