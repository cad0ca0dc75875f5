"""Who a request comes from: a signed session, and an address."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from gradio.context import LocalContext
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "foir_client"
HEADER = "x-foir-client"  # signed; MCP calls an endpoint by a request of its own, which would come from this machine
STATE = "foir.client"
IPV6_PREFIX = 64  # bits; a household has at least so many addresses


@dataclass(frozen=True)
class Client:
    """Who a request comes from.

    Attributes:
        address: Its IPv4 address, or its IPv6 network.
        session: Id of its signed cookie; empty for programs and for browsers that take no cookie.
    """

    address: str = ""
    session: str = ""

    @property
    def groups(self) -> dict[str, Client]:
        """What limits may apply to, by level: "client" (only with a session), "address" and "everyone"."""
        own = {"client": self} if self.session else {}
        return {**own, "address": Client(self.address), "everyone": Client()}


class Clients:
    """Middleware that tells the client of each request, and gives a session to each browser."""

    def __init__(self, app: ASGIApp) -> None:
        """Make the secret that signs sessions; they are valid until the page is stopped."""
        self.app, self._secret = app, secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its client."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        session = self._verify(COOKIE, connection.cookies.get(COOKIE, ""))
        headers = MutableHeaders(scope=scope)
        client = Client(_network(connection.client.host if connection.client else ""), session)
        address, _, session = self._verify(HEADER, headers.get(HEADER, "")).partition(" ")
        client = Client(address, session) if address else client
        if "/mcp" in scope["path"]:
            headers[HEADER] = self._sign(HEADER, f"{client.address} {client.session}")
        scope[STATE] = client

        async def send_session(message: Message) -> None:
            if message["type"] == "http.response.start" and not client.session:
                answer = MutableHeaders(scope=message)
                if answer.get("content-type", "").startswith("text/html"):
                    answer.append("set-cookie", f"{COOKIE}={self._sign(COOKIE, uuid4().hex)}; {_cookie_attributes()}")
            await send(message)

        await self.app(scope, receive, send_session)

    def _sign(self, purpose: str, text: str) -> str:
        signature = hmac.digest(self._secret, f"{purpose} {text}".encode(errors="replace"), "sha256").hex()
        return f"{text}.{signature}"

    def _verify(self, purpose: str, signed: str) -> str:
        """The text that was signed for a purpose; empty if the signature is wrong."""
        text = signed.rpartition(".")[0]
        expected = self._sign(purpose, text)
        return text if hmac.compare_digest(signed.encode(), expected.encode()) else ""


def client_of(scope: Mapping[str, Any]) -> Client:
    """The client of a request."""
    return scope.get(STATE, Client())


def current_client() -> Client:
    """The client whose event is handled in this thread."""
    event = LocalContext.request.get(None)
    return Client() if event is None or event.request is None else client_of(event.request.scope)


def _network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a proxy may write anything
        return host[:64]
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _cookie_attributes() -> str:
    """A Space is shown in a frame of another site, whose cookies need "None" and HTTPS."""
    framed = "SameSite=None; Secure; Partitioned" if os.environ.get("SPACE_ID") else "SameSite=Lax"
    return f"Path=/; HttpOnly; {framed}"
