"""Uploaded files: of each visitor's own, bounded, and gone soon."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from foir.app import uploads
from foir.app.clients import STATE, Client
from foir.app.fair_store import Capacity
from foir.app.handlers import take_upload
from foir.app.uploads import Uploads
from tests.foir.app.standins import ANN, BOB, apart


@pytest.fixture
def send(tmp_path):
    """Post a file as each of some clients at one time; the answers, after the seconds to wait."""
    served: list[Any] = []

    def send(data, *clients, wait=0.0, path="/gradio_api/upload"):
        if not served:
            served.append(Starlette(routes=Uploads().routes))
            served[0].uploaded_file_dir = str(tmp_path / "files")

        def http(client):
            async def app(scope, receive, send):
                await served[0]({**scope, STATE: client}, receive, send)

            return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")

        async def post():
            posts = [http(client).post(path, files={"files": ("../mine.png", data)}) for client in clients or [ANN]]
            answers = await asyncio.gather(*posts)
            await asyncio.sleep(wait)
            return answers

        return apart(post)

    return send


def stored(answers):
    return [Path(path) for answer in answers for path in answer.json()]


def test_visitors_with_the_same_picture_have_a_file_each(send, tmp_path):
    paths = stored(send(b"same", *(Client("home", str(number)) for number in range(30))))
    assert len(set(paths)) == 30 and all(path.is_relative_to(tmp_path / "files") for path in paths)
    assert [take_upload(str(path)) for path in paths] == [b"same"] * 30 and not any(path.exists() for path in paths)


def test_who_uploads_too_much_loses_its_own(send, monkeypatch):
    monkeypatch.setitem(uploads.UPLOADED, "client", Capacity(2, 100))
    (own,) = stored(send(b"x" * 80, BOB))
    first, second, third = (stored(send(b"x" * size))[0] for size in (40, 40, 80))
    assert [path.exists() for path in (own, first, second, third)] == [True, False, False, True]


def test_files_are_gone_though_nobody_comes(send, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", -0.99)
    (path,) = stored(send(b"forgotten", wait=0.1))
    assert not path.parents[1].exists()


def test_what_is_refused_leaves_nothing(send, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_BYTES", 10)
    assert send(b"x" * 11)[0].status_code == 413
    assert list((tmp_path / "files").rglob("*")) == []


@pytest.mark.parametrize("name", uploads.UNUSED)
def test_gradio_writes_no_other_files(send, name):
    assert send(b"x", path=f"/gradio_api/{name}")[0].status_code == 404
