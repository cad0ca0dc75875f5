"""Uploaded files: each in a folder of its own, for a short time."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from uuid import uuid4

from gradio.route_utils import upload_fn
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from foir.app.clients import client_of
from foir.app.fair_store import Capacity, FairStore
from foir.app.pictures import UPLOAD_BYTES

UPLOAD_SECONDS = 300  # to keep a file that no event reads
UPLOADED = {"client": Capacity(16, 96e6), "everyone": Capacity(1000, 1e9)}  # files and bytes on disk
UNUSED = ("deep_link", "process_recording")  # routes of Gradio that write files


class Uploads:
    """Takes the place of Gradio's upload, which names a file by its content, so that equal images were one file."""

    def __init__(self) -> None:
        """Start empty."""
        self._folders = FairStore[Path](UPLOADED, UPLOAD_SECONDS, on_drop=lambda _, folder: shutil.rmtree(folder, True))

    @property
    def routes(self) -> list[Route]:
        """Routes that come before those of Gradio."""
        unused = [Route(f"/gradio_api/{name}", _refuse, methods=["GET", "POST"]) for name in UNUSED]
        return [Route("/gradio_api/upload", self._receive, methods=["POST"]), *unused]

    async def _receive(self, request: Request) -> Response:
        """Store the files of a request; returns their paths."""
        folder, files = Path(request.app.uploaded_file_dir) / uuid4().hex, []
        try:
            files, _, _ = await upload_fn(request, folder, UPLOAD_BYTES, None)
        except MultiPartException as error:
            return PlainTextResponse(error.message, 413 if "maximum allowed size" in error.message else 400)
        finally:
            if not files:  # also where the sender went away
                shutil.rmtree(folder, True)
        size = sum(Path(file).stat().st_size for file in files)
        self._folders.put(folder.name, folder, client_of(request.scope), size)
        asyncio.get_running_loop().call_later(UPLOAD_SECONDS + 1, self._folders.expire)
        return JSONResponse([str(file) for file in files])


def _refuse(request: Request) -> Response:
    return PlainTextResponse("Not Found", 404)
