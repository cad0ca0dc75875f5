"""What the page's server adds to Gradio's: pictures by id and by token, and a guard at the door."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gradio.processing_utils
import httpx
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foir.errors import FoirError

if TYPE_CHECKING:
    from foir.app import Collections

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MAX_BODY = 32_000_000  # bytes that a request may have; an uploaded picture may have 20 million, a third more in base64


def image_routes(library: Collections) -> list[Route]:
    """`/thumb/COLLECTION/ID`, a picture of one, and `/photo/TOKEN`, a visitor's; no path is ever told or taken."""

    def thumb(request: Request) -> Response:
        try:
            index = library.controller(request.path_params["collection"]).index
            file = index.thumb(index.get(request.path_params["id"]))
        except FoirError:  # no such picture, or its file is damaged: its card stays without it
            return PlainTextResponse("There is no such thumbnail.", 404)
        return FileResponse(file, headers={"Cache-Control": "private, max-age=600"})

    def photo(request: Request) -> Response:
        try:
            jpeg, _ = library.sessions.get(request.path_params["token"]).preview
        except FoirError:
            return PlainTextResponse("There is no such picture.", 404)
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return [Route("/thumb/{collection}/{id:int}", thumb), Route("/photo/{token}", photo)]


def block_downloads() -> None:
    """Let Gradio open no connection for a caller: it would fetch any address that stands in the place of a file."""
    gradio.processing_utils.async_transport = _Closed()  # type: ignore[assignment]


class _Closed(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("foir fetches nothing", request=request)


class RequestGuard:
    """Refuses what another site's page asks for in a visitor's name, and requests that are too large.

    Gradio looks at origins on localhost only. Programs send none and pass, and so does opening the page from elsewhere,
    as in the frame that shows a Space. A name that is not known to be this machine's is refused too, since any site can
    let its own name lead here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.names = app, _names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers, read = Headers(scope=scope), 0
        if not self._known(headers.get("host", "")):
            refusal = PlainTextResponse("This page is not served under that name: add it to FOIR_HOSTS.", 403)
            return await refusal(scope, receive, send)
        if _foreign(headers):
            return await PlainTextResponse("This page answers only itself.", 403)(scope, receive, send)
        size = headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > MAX_BODY:
            return await PlainTextResponse("That is too large.", 413)(scope, receive, send)

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:  # it was sent in pieces, without saying how much will come
                raise ValueError("a request is too large")
            return message

        await self.app(scope, counted, send)

    def _known(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names or name.endswith(tuple(known for known in self.names if known.startswith(".")))
        return True


def is_localhost() -> bool:
    """Whether only this machine's own user can open the page: served on its loopback, under no other name.

    FOIR_ADD "yes" or "no" says otherwise.
    """
    said = os.environ.get("FOIR_ADD", "").strip().lower()
    if said:
        return said == "yes"
    served = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    named = os.environ.get("SPACE_ID") or os.environ.get("SPACE_HOST")
    named = named or os.environ.get("FOIR_HOSTS") or os.environ.get("GRADIO_ROOT_PATH")
    return served in LOOPBACK and not named


def _names() -> set[str]:
    """Names under which this machine may be asked for, lower case; one with a leading dot stands for all below it."""
    own = socket.gethostname()
    said: list[Any] = [os.environ.get("SPACE_HOST"), os.environ.get("GRADIO_SERVER_NAME"), own, f"{own}.local"]
    said += os.environ.get("FOIR_HOSTS", "").split(",")
    return {"localhost", ".localhost", *(name.strip().lower() for name in said if name and name.strip())}


def _foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc != headers.get("host")
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
