"""Photos of an Immich server, from a stand-in of the endpoints that its API documents."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from uuid import UUID

import pytest

from foir import Index, Unavailable
from index_build.pipeline import Plan, build
from index_build.sources import open_source
from tests.conftest import scene

COUNT, KEY = 5, "a-secret-key"


def asset(number):
    exif = {
        "make": "Google", "model": "Pixel 9", "lensModel": "wide", "rating": 4, "description": f"Scene {number}.",
        "latitude": 48.1, "longitude": 11.5, "city": "Ulm",
    }  # fmt: skip
    return {
        "id": str(UUID(int=COUNT - number)), "type": "IMAGE", "originalFileName": f"IMG/{number}.HEIC",
        "originalPath": f"/data/host/{number}.HEIC", "checksum": f"sum{number}", "exifInfo": exif,
        "localDateTime": "2024-07-03T12:34:56.000Z", "tags": [{"value": "dog"}],
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    listing: Any = None  # instead of the real one


class Handler(BaseHTTPRequestHandler):
    """Two photos a page; the last photo is gone when its preview is asked for."""

    def log_message(self, *args):
        pass

    def answer(self, status, data):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if self.headers["x-api-key"] != KEY:
            self.answer(401, b"{}")
        return self.headers["x-api-key"] == KEY

    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if self.path != "/api/search/metadata" or (wanted["type"], wanted["withExif"]) != ("IMAGE", True):
            return self.answer(400, b"{}")
        start = 2 * (wanted["page"] - 1)
        following = str(wanted["page"] + 1) if start + 2 < COUNT else None
        items = [asset(number) for number in range(start, min(start + 2, COUNT))]
        self.answer(
            200,
            json.dumps(
                cast(Server, self.server).listing or {"assets": {"items": items, "nextPage": following}}
            ).encode(),
        )

    def do_GET(self):
        number = COUNT - UUID(self.path.split("/")[3]).int
        if not self.allowed():
            return
        if not self.path.endswith("/thumbnail?size=preview") or number == COUNT - 1:
            return self.answer(404, b"{}")
        out = io.BytesIO()
        scene(number).save(out, "JPEG", quality=95)
        self.answer(200, out.getvalue())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("IMMICH_API_KEY", KEY)
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server):
    return f"immich+http://127.0.0.1:{server.server_port}"


def test_a_server_is_indexed_and_results_lead_back(server, tmp_path):
    out = tmp_path / "index"
    done = build(Plan(open_source(address(server), out), out, "toy", device="cpu"))
    assert done.image_count == 4 and "is empty" in done.rejected[0]["reason"]
    item = next(item for item in Index.open(out).items() if item.caption == "Scene 1.")
    assert item.file == f"{UUID(int=4)}/IMG_1.HEIC" and item.source == address(server)
    assert (item.camera, item.lens, item.rating, item.keywords) == ("Google Pixel 9", "wide", 4, "dog")
    assert (item.taken, item.taken_from) == (1_720_010_096, "exif")
    assert item.link == f"http://127.0.0.1:{server.server_port}/photos/{UUID(int=4)}"
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert KEY.encode() not in written and b"Ulm" not in written and b"/data/host" not in written
    again = build(Plan(open_source(address(server), out), out, "toy", device="cpu"))
    assert again.image_count == 4


@pytest.mark.parametrize(
    "listing", [{"assets": {}}, {"assets": {"items": [{"id": "../x", "originalFileName": "a"}]}}, ["no object"]]
)
def test_another_server_is_one_sentence(server, listing, tmp_path):
    server.listing = listing
    with pytest.raises(Unavailable, match="does not answer as Immich documents it"):
        open_source(address(server), tmp_path)


def test_keys_and_addresses(server, monkeypatch, tmp_path):
    monkeypatch.setenv("IMMICH_API_KEY", "another")
    with pytest.raises(Unavailable, match="refuses the key in IMMICH_API_KEY") as error:
        open_source(address(server), tmp_path)
    assert "another" not in str(error.value)
    monkeypatch.delenv("IMMICH_API_KEY")
    with pytest.raises(Unavailable, match="Set IMMICH_API_KEY"):
        open_source(address(server), tmp_path)
    for wrong in ("immich://", "immich://user:password@host", "immich://host/path"):
        with pytest.raises(Unavailable, match="names no Immich server"):
            open_source(wrong, tmp_path)


def test_a_server_that_is_down_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("IMMICH_API_KEY", KEY)
    monkeypatch.setattr("index_build.sources.immich.wait_exponential", lambda **how: 0)
    with pytest.raises(Unavailable, match="does not answer"):
        open_source("immich+http://127.0.0.1:9", tmp_path)
