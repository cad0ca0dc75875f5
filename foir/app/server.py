"""Serve the page: launch, routes for images by id and by token, and the guard of all requests."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit

import gradio as gr
import gradio.processing_utils
import httpx
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foir.app.clients import Clients, trust_proxies
from foir.app.collections import Collections
from foir.app.event_queue import FairQueue
from foir.app.fairness import ByteQuota
from foir.app.layout import build, read_asset
from foir.app.pictures import UPLOAD_BYTES
from foir.app.uploads import Uploads
from foir.errors import FoirError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MAX_BODY = 32_000_000  # bytes of a request; an uploaded image may have 20 million, a third more in base64
CACHED = {"Cache-Control": "private, max-age=600"}


def launch(collections: Collections) -> gr.Blocks:
    """Serve the page and its API from background threads."""
    block_downloads()
    trust_proxies()
    blocks = build(collections).queue(api_open=False)
    blocks._queue = FairQueue(blocks)
    middleware = [Middleware(RequestGuard), Middleware(Clients), Middleware(ByteQuota)]
    blocks.launch(
        theme=gr.themes.Default(
            primary_hue="amber",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],  # Gradio's default fonts are downloaded
            font_mono=["ui-monospace", "monospace"],
        ).set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"),  # for contrast
        css=read_asset("page.css"),
        app_kwargs={"routes": [*image_routes(collections), *Uploads().routes], "middleware": middleware},
        mcp_server=True,
        max_file_size=UPLOAD_BYTES,
        strict_cors=True,
        show_error=False,
        run_history=False,
        ssr_mode=False,  # else other processes take uploads and requests first
        inbrowser=False,
        prevent_thread_lock=True,
    )
    return blocks


def image_routes(collections: Collections) -> list[Route]:
    """`/thumb/COLLECTION/ID` for a thumbnail, `/photo/TOKEN` for a user's image. No request contains a file path."""

    def thumb(request: Request) -> Response:
        try:
            index = collections.controller(request.path_params["collection"]).index
            file = index.thumb(index.get(request.path_params["id"]))
        except FoirError:  # no such image, or a damaged file: the card stays empty
            return PlainTextResponse("There is no such thumbnail.", 404)
        return FileResponse(file, headers=CACHED)

    def photo(request: Request) -> Response:
        try:
            jpeg, _ = collections.sessions.get(request.path_params["token"]).preview
        except FoirError:
            return PlainTextResponse("There is no such image.", 404)
        return Response(jpeg, media_type="image/jpeg", headers=CACHED)

    return [Route("/thumb/{collection}/{id:int}", thumb), Route("/photo/{token}", photo)]


def block_downloads() -> None:
    """Keep Gradio from opening connections: it would download any address given in place of a file."""
    gradio.processing_utils.async_transport = _NoTransport()  # type: ignore[assignment]


class _NoTransport(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("foir downloads nothing", request=request)


class RequestGuard:
    """Refuses cross-site requests, unknown host names and requests that are too large.

    Gradio checks origins on localhost only. Programs send no origin and pass. Navigation from another site passes too,
    as in the frame that shows a Space. Unknown host names are refused because any site can let its own name resolve to
    this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.host_names = app, _host_names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers, received = Headers(scope=scope), 0
        refusal = self._refusal(headers)
        if refusal is not None:
            return await refusal(scope, receive, send)

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:  # a chunked request, whose length was not known
                raise ValueError("a request is too large")
            return message

        await self.app(scope, limited_receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        if not self._is_known(headers.get("host", "")):
            return PlainTextResponse("This host name is unknown: add it to FOIR_HOSTS.", 403)
        if _is_cross_site(headers):
            return PlainTextResponse("Cross-site requests are refused.", 403)
        size = headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > MAX_BODY:
            return PlainTextResponse("The request is too large.", 413)
        return None

    def _is_known(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            suffixes = tuple(known for known in self.host_names if known.startswith("."))
            return name in self.host_names or name.endswith(suffixes)
        return True


def is_localhost() -> bool:
    """Whether only users of this machine can open the page: served on loopback, under no other name.

    FOIR_ADD "yes" or "no" overrides this.
    """
    override = os.environ.get("FOIR_ADD", "").strip().lower()
    if override:
        return override == "yes"
    server = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    public = ("SPACE_ID", "SPACE_HOST", "FOIR_HOSTS", "GRADIO_ROOT_PATH")
    return server in LOOPBACK and not any(os.environ.get(name) for name in public)


def _host_names() -> set[str]:
    """Host names of this machine in lower case; a leading dot includes all subdomains."""
    own, env = socket.gethostname(), os.environ
    names = [env.get("SPACE_HOST", ""), env.get("GRADIO_SERVER_NAME", ""), own, f"{own}.local"]
    names += env.get("FOIR_HOSTS", "").split(",")
    return {"localhost", ".localhost", *(name.strip().lower() for name in names if name.strip())}


def _is_cross_site(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc != headers.get("host")
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
