"""Serve the page: launch, and routes for images by id and by token."""

from __future__ import annotations

import os

import gradio as gr
import gradio.http_server
import gradio.processing_utils
import httpx
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from foir.app.clients import Clients
from foir.app.collections import Collections
from foir.app.connections import BoundedServer
from foir.app.event_queue import FairQueue
from foir.app.fairness import ByteQuota
from foir.app.layout import build, read_asset
from foir.app.pictures import UPLOAD_BYTES
from foir.app.proxies import Proxies, came_through_proxy
from foir.app.request_guard import BodyGuard, RequestGuard
from foir.app.uploads import Uploads
from foir.errors import BadPrompt, FoirError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MAX_DIGITS = 19  # of an id, which has 64 bits
CACHED = {"Cache-Control": "private, max-age=600"}


def launch(collections: Collections) -> gr.Blocks:
    """Serve the page and its API from background threads."""
    block_downloads()
    gradio.http_server.Server = BoundedServer  # type: ignore[misc]
    blocks = build(collections).queue(api_open=False)
    blocks._queue = FairQueue(blocks)
    middleware = [
        Middleware(RequestGuard),
        Middleware(ProxyHeadersMiddleware, trusted_hosts=Proxies().networks),  # what follows sees the visitor's address
        Middleware(Clients),
        Middleware(ByteQuota),
        Middleware(BodyGuard),
    ]
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
        enable_monitoring=False,  # it would print an address for every request
        run_history=False,
        ssr_mode=False,  # else other processes take uploads and requests first
        inbrowser=False,
        prevent_thread_lock=True,
    )
    return blocks


def image_routes(collections: Collections) -> list[Route]:
    """`/thumb/COLLECTION/ID` for a thumbnail, `/photo/TOKEN` for a user's image, `/file/COLLECTION/ID` for a file.

    No request contains a file path. Files are served on localhost only.
    """

    def thumb(request: Request) -> Response:
        try:
            index = collections.controller(request.path_params["collection"]).index
            file = index.thumb(index.get(_item_id(request.path_params["id"])))
        except FoirError:  # no such image, or a damaged file: the card stays empty
            return PlainTextResponse("There is no such thumbnail.", 404)
        return FileResponse(file, headers=CACHED)

    def photo(request: Request) -> Response:
        try:
            jpeg, _ = collections.sessions.get(request.path_params["token"]).preview
        except FoirError:
            return PlainTextResponse("There is no such image.", 404)
        return Response(jpeg, media_type="image/jpeg", headers=CACHED)

    def file(request: Request) -> Response:
        try:
            controller = collections.controller(request.path_params["collection"])
            if not controller.views.serves_files or came_through_proxy(request.headers):
                return PlainTextResponse("Files are not served here.", 404)
            path = controller.index.picture(controller.index.get(_item_id(request.path_params["id"])))
        except FoirError:
            return PlainTextResponse("There is no such file.", 404)
        return FileResponse(path, headers=CACHED)

    return [
        Route("/thumb/{collection}/{id}", thumb),
        Route("/photo/{token}", photo),
        Route("/file/{collection}/{id}", file),
    ]


def _item_id(text: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise BadPrompt("The id of an image is a whole number.")
    return int(text)


def block_downloads() -> None:
    """Keep Gradio from opening connections: it would download any address given in place of a file."""
    gradio.processing_utils.async_transport = _NoTransport()  # type: ignore[assignment]


class _NoTransport(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("foir downloads nothing", request=request)


def is_localhost() -> bool:
    """Whether only users of this machine can open the page: served on loopback, under no other name.

    FOIR_ADD "yes" or "no" overrides this.
    """
    override = os.environ.get("FOIR_ADD", "").strip().lower()
    return override == "yes" if override else is_loopback()


def is_loopback() -> bool:
    """Whether the page is served on loopback, under no other name: what FOIR_ADD cannot override."""
    server = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    public = ("SPACE_ID", "SPACE_HOST", "FOIR_HOSTS", "GRADIO_ROOT_PATH")
    return server in LOOPBACK and not any(os.environ.get(name) for name in public)
