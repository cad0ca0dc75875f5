"""The guard of all requests: host names, other sites, forwarded headers, and the headers of responses."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foir.app.proxies import Proxies
from foir.app.request_body import body_limit, checked_body, takes_body

API = "/gradio_api/"
MAX_HELD = 1_000_000_000  # bytes of all bodies that arrive at a time
READING = ("GET", "HEAD", "OPTIONS")
FORWARDED = ("x-forwarded-host", "x-forwarded-proto")  # what links of the page are made of


class RequestGuard:
    """Refuses cross-site requests, unknown host names, and bodies that say they are too large.

    Gradio checks origins on localhost only. Programs send no origin and pass. Navigation from another site passes too,
    as in the frame that shows a Space. Unknown host names are refused because any site can let its own name resolve to
    this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.host_names, self.proxies = app, _host_names(), Proxies()
        self.headers = response_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page opens no WebSocket
            return await send({"type": "websocket.close"})

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refusal = self._refusal(scope)
        self._forget_forwarded(scope)
        await (refusal or self.app)(scope, receive, send_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_known(headers.get("host", "")):
            return PlainTextResponse("This host name is unknown: add it to FOIR_HOSTS.", 403)
        if _is_cross_site(headers):
            return PlainTextResponse("Cross-site requests are refused.", 403)
        if not scope["path"].isprintable():
            return PlainTextResponse("The address holds a control character.", 400)
        route = _api_route(scope["path"])
        if route.startswith("proxy=") if scope["method"] in READING else not takes_body(route):
            return PlainTextResponse("There is no such endpoint.", 404)
        size = headers.get("content-length", "0")
        if not (size.isdecimal() and len(size) < 20 and int(size) <= body_limit(route)):
            return PlainTextResponse("The request is too large.", 413)
        return None

    def _is_known(self, host: str) -> bool:
        name = _host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            suffixes = tuple(known for known in self.host_names if known.startswith("."))
            return name in self.host_names or name.endswith(suffixes)
        return True

    def _forget_forwarded(self, scope: Scope) -> None:
        """Empty the forwarded host name and protocol, unless a trusted proxy sent names that are known.

        The headers stay, since their presence tells that a visitor came through a proxy.
        """
        peer = (scope.get("client") or ("",))[0]
        headers = MutableHeaders(scope=scope)
        for name in FORWARDED:
            value = headers.get(name, "").partition(",")[0].strip()
            is_sound = value in ("http", "https") if name.endswith("proto") else self._is_known(value)
            if name in headers and not (is_sound and peer in self.proxies):
                headers[name] = ""


class BodyGuard:
    """Checks bodies before anything parses them; see `foir.app.request_body`. It holds them whole, so it comes late."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self._held = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] in READING:
            return await self.app(scope, receive, send)
        route = _api_route(scope["path"])
        stated = Headers(scope=scope).get("content-length", "")
        size = int(stated) if stated.isdecimal() else body_limit(route)
        if self._held + size > MAX_HELD:
            return await PlainTextResponse("The server is busy: try again in a moment.", 503)(scope, receive, send)
        self._held += size
        try:
            receive = await checked_body(receive, route)
        except HTTPException as error:
            return await PlainTextResponse(error.detail, error.status_code)(scope, receive, send)
        finally:
            self._held -= size
        try:
            await self.app(scope, receive, send)
        except TypeError:  # Gradio's, before it answers: an endpoint that is called by name has no such argument
            if "/call/v2/" not in scope["path"]:
                raise
            await PlainTextResponse("The endpoint has other arguments.", 400)(scope, receive, send)


def response_headers() -> dict[str, str]:
    """Headers of every response. Gradio's page has inline scripts, and makes functions of components' scripts."""
    on_space = bool(os.environ.get("SPACE_ID"))
    framers = " https://huggingface.co https://*.hf.space" if on_space else ""
    policy = {
        "default-src": "'self'",
        "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": f"'self'{framers}",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
    }


def _api_route(path: str) -> str:
    return path.partition(API)[2].strip("/").replace("call/v2/", "call/")  # the same, with arguments by name


def _host_names() -> set[str]:
    """Host names of this machine in lower case; a leading dot includes all subdomains."""
    own, env = socket.gethostname(), os.environ
    names: Iterable[str] = [env.get("SPACE_HOST", ""), env.get("GRADIO_SERVER_NAME", ""), own, f"{own}.local"]
    names = [*names, *env.get("FOIR_HOSTS", "").split(",")]
    return {"localhost", ".localhost", *(name.strip().lower() for name in names if name.strip())}


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # such as an IPv6 address whose bracket is left open
        return ""


def _is_cross_site(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] != headers.get("host")
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
