"""The page's server: what programs get from it, and what nobody gets from it."""

import ast
import base64
import io
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio import processing_utils
from gradio_client import Client
from gradio_client.exceptions import AppError

from eval.benchmarks import load
from foir import FoirError, Index, Searcher, encoders
from foir.app import event_queue, handlers, layout, server, uploads
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.app.fair_store import Capacity
from foir.app.request_body import MAX_BODY
from foir.app.sessions import Settings
from index_build.pipeline import Plan, build
from tests.conftest import draw, scene
from tests.foir.app.standins import apart
from tests.reliability.visitors import Visitor

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Served:
    """A page that is served: its address, its index, the folder that Gradio keeps files in, the collections."""

    address: str
    index: Index
    files: Path
    library: Collections
    blocks: gr.Blocks

    @property
    def thumb(self):
        """Where its thumbnails are served."""
        return f"{self.address}/thumb/{self.library.default_key}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page on a small index, served for real."""
    root = tmp_path_factory.mktemp("serving")
    build(Plan(draw(root / "pictures", 12), root / "index", "toy-words", heads=True, device="cpu"))
    index = Index.open(root / "index")
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(root / "files"))
    patch.setattr(layout, "SWEEP", 1)
    patch.setattr(uploads, "UPLOAD_SECONDS", 2)
    searcher = Searcher(index, encoders.load("toy-words", device="cpu"))
    library = Collections([index.folder], lambda _, key: Controller(index, lambda: searcher, key))
    blocks = server.launch(library)
    yield Served(str(blocks.local_url).rstrip("/"), index, root / "files", library, blocks)
    blocks.close()
    patch.undo()


@pytest.fixture(scope="module")
def client(served):
    return Client(served.address, verbose=False)


def encoded(number):
    out = io.BytesIO()
    scene(number).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_programs_see_typed_endpoints_and_none_of_the_pages_own(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/collections", "/search", "/search_text", "/caption", "/feedback"}
    asked = {p["parameter_name"]: p for p in named["/search"]["parameters"]}
    assert asked["boxes"]["type"] == {
        "oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}]
    }
    assert asked["k"]["parameter_default"] == 20
    answer = named["/search"]["returns"][0]["type"]
    assert answer["items"]["properties"]["score"] == {"type": "number"}


def test_a_program_searches_and_fetches_what_it_found(served, client):
    found = client.predict(image=encoded(3), boxes=[[20, 10, 80, 70]], heads=2, k=3, api_name="/search")
    assert len(found) == 3 and found[0]["id"] == 3
    thumbnail = httpx.get(served.address + found[0]["thumbnail"])
    assert thumbnail.status_code == 200 and thumbnail.headers["content-type"] == "image/jpeg"
    assert thumbnail.content == served.index.thumb(served.index.item(served.index.row(3))).read_bytes()


def test_pictures_of_programs_are_gone_after_the_answer(served, client):
    before = set(served.blocks.state_holder.session_data)
    for number in range(5):
        assert client.predict(image=encoded(number), k=3, api_name="/search")
        made = httpx.post(f"{served.address}/gradio_api/call/v2/search", json={"image": encoded(number)}).json()
        assert "event: complete" in httpx.get(f"{served.address}/gradio_api/call/search/{made['event_id']}").text
    deadline = time.monotonic() + 20  # the last answer is sent just before its picture is dropped
    while set(served.blocks.state_holder.session_data) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(served.blocks.state_holder.session_data) <= before
    assert not served.blocks._queue.event_ids_to_events


def test_visitors_with_one_picture_are_all_answered_and_known_apart(served):
    with ThreadPoolExecutor(8) as pool:
        visitors = list(pool.map(lambda _: Visitor(served.address), range(8)))
        answers = list(pool.map(lambda visitor: visitor.upload(base64.b64decode(encoded(3))), visitors))
    assert all(answer is not None and answer[1]["name"] == "your image" for answer in answers)
    stored = [entry.client for entry in served.library.sessions._sessions._entries.values()]
    assert len({client.session for client in stored} - {""}) >= 8
    assert {client.address for client in stored if client.session} == {"127.0.0.1"}
    assert not [path for path in served.files.rglob("*") if path.is_file() and path.name == "mine.jpg"]


def test_one_client_takes_few_places(served, monkeypatch):
    """Its further events are asked to come again, another's are answered."""
    searcher, go = served.library.controller().searcher, threading.Event()
    search = searcher.search
    monkeypatch.setattr(searcher, "search", lambda query: go.wait(20) and search(query))
    greedy, other = Visitor(served.address), Visitor(served.address)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(greedy.join, "results", "select", event_data={"id": 1}) for _ in range(10)]
        joined = [each.result() for each in asked]
        assert 3 <= joined.count(True) <= 4  # one runs, three wait
        answer = pool.submit(other.choose, 2)
        go.set()
        assert answer.result() is not None


def test_what_is_no_question_gets_its_sentence(client):
    with pytest.raises(AppError, match="Ask for 1 to 100 results, not 0"):
        client.predict(item=1, k=0, api_name="/search")
    with pytest.raises(AppError, match="boxes"):
        client.predict(item=1, boxes="<b>all</b>", api_name="/search")


def test_agents_find_the_same_as_tools(served):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk():
        async with (
            streamablehttp_client(f"{served.address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("search_text"))
            return tools, name, await session.call_tool(name, {"text": "a red thing", "k": 2})

    tools, name, answer = apart(talk)
    ours = [
        tool for tool in tools.values() if re.search(r"(collections|search|search_text|caption|feedback)$", tool.name)
    ]
    assert len(ours) == len(tools) == 5
    described = tools[name].inputSchema["properties"]["text"]["description"]
    assert "What to look for" in described
    assert len(ast.literal_eval(answer.content[0].text)) == 2


def test_the_client_of_the_documentation_runs(served, tmp_path):
    photo = tmp_path / "photo.png"
    scene(5).save(photo)
    command = [sys.executable, "docs/client.py", served.address, str(photo), "20,10,80,70"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5 + 3 and lines[0].split("\t")[1] == "5"
    assert "python docs/client.py" in (ROOT / "README.md").read_text()


OTHERS = [
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
]


@pytest.mark.parametrize("headers", OTHERS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/call/search_text"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/mcp/"),
        ("GET", "/thumb/sample/0"),
        ("GET", "/config"),
    ],
)
def test_other_sites_are_refused(served, method, path, headers):
    assert httpx.request(method, served.address + path, headers=headers, json={"data": ["x"]}).status_code == 403


def test_the_page_itself_and_opening_it_from_elsewhere_are_not(served):
    address = served.address
    own = {"Origin": address, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert httpx.post(f"{address}/gradio_api/call/search_text", headers=own, json={"data": ["x"]}).status_code == 200
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert httpx.get(address, headers=framed).status_code == 200
    forged = {"Origin": "https://elsewhere.example", "X-Forwarded-Host": "elsewhere.example"}
    assert httpx.get(f"{address}/config", headers=forged).status_code == 403


@pytest.mark.parametrize("name", ["search", "search_text"])
def test_no_address_is_fetched(served, monkeypatch, name):
    """What stands in the place of a file would be fetched by Gradio; the connection is refused before it is made."""
    asked = []

    async def refuse(self, request):
        asked.append(str(request.url))
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(type(processing_utils.async_transport), "handle_async_request", refuse)
    file = {"path": "https://huggingface.co/large.bin", "meta": {"_type": "gradio.FileData"}}
    made = httpx.post(f"{served.address}/gradio_api/call/{name}", json={"data": [file]})
    event = httpx.get(f"{served.address}/gradio_api/call/{name}/{made.json()['event_id']}", timeout=20).text
    assert "event: error" in event
    kept = [path for path in served.files.rglob("*") if "large" in path.name]
    assert not kept


def test_nothing_runs_beside_the_queue(served):
    for path in ("/gradio_api/run/search_text", "/gradio_api/api/search_text", "/gradio_api/run/predict"):
        answer = httpx.post(served.address + path, json={"data": ["thing 5"], "fn_index": 0})
        assert answer.status_code in (401, 404, 405), path


def test_a_visitors_picture_is_served_to_who_knows_its_token_as_long_as_it_is_kept(served):
    address, visitors = served.address, served.library.sessions
    session = served.library.controller().choose(3, Settings("phs", 2)).session
    assert httpx.get(f"{address}/photo/{session.token}").status_code == 404
    visitors.put(session)
    answer = httpx.get(f"{address}/photo/{session.token}")
    assert answer.headers["content-type"] == "image/jpeg" and answer.content == session.preview[0]
    visitors.drop(session.token)
    for token in (session.token, "guessed", "a/b"):
        assert httpx.get(f"{address}/photo/{token}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        str(ROOT / "app.py"),
        str(ROOT / "README.md"),
        "{index}/manifest.json",
        "{index}/../pictures/00.png",
        "{thumb}",
    ],
)
def test_no_file_can_be_read(served, path):
    address, index = served.address, served.index
    named = path.format(index=index.folder, thumb=index.thumb(index.item(0)))
    for prefix in ("/gradio_api/file=", "/file=", "/gradio_api/stream/", "/thumb/", "/thumb/../../"):
        assert httpx.get(address + prefix + named).status_code in (403, 404, 405), prefix
    assert httpx.get(f"{address}/thumb/other/0").status_code == 404
    for id in ("-1", "999", "0.0", "x", "9" * 5000):
        assert httpx.get(f"{served.thumb}/{id}").status_code == 404


def test_a_damaged_thumbnail_is_not_served(served):
    index = served.index
    path = index.thumb(index.item(index.row(7)))
    data = path.read_bytes()
    try:
        path.write_bytes(b"damaged")
        assert httpx.get(f"{served.thumb}/7").status_code == 404
    finally:
        path.write_bytes(data)
    assert httpx.get(f"{served.thumb}/7").status_code == 200


def test_requests_that_are_too_large_are_refused(served):
    address = served.address
    large = httpx.post(f"{address}/gradio_api/call/search", content=b"x" * (MAX_BODY + 1))
    assert large.status_code == 413
    assert httpx.get(f"{served.thumb}/0").status_code == 200


def test_uploaded_files_are_limited_and_gone_soon(served):
    address, files = served.address, served.files
    upload = f"{address}/gradio_api/upload"
    assert httpx.post(upload, files={"files": ("large.bin", b"x" * 22_000_000)}).status_code == 413
    answer = httpx.post(upload, files={"files": ("mine.png", base64.b64decode(encoded(1)))})
    kept = Path(answer.json()[0])
    assert kept.is_relative_to(files) and kept.exists()
    deadline = time.monotonic() + 30
    while kept.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not kept.exists()


def test_an_upload_that_was_read_is_gone_at_once(tmp_path):
    file = tmp_path / "mine.png"
    file.write_bytes(b"bytes")
    assert handlers.take_upload(str(file)) == b"bytes" and not file.exists()
    with pytest.raises(Exception, match="try again"):
        handlers.take_upload(str(file))
    assert handlers.take_upload(None) == b""


def test_what_a_visitor_looks_at_is_forgotten(served):
    """Gradio keeps a token only, and tells when it drops it."""
    library = Collections([served.index.folder], lambda _, key: served.library.controller())
    states = [block for block in layout.build(library).blocks.values() if isinstance(block, gr.State)]
    state = next(state for state in states if state.delete_callback == library.sessions.drop)
    token = library.sessions.put(library.controller().choose(3, Settings("phs", 2)).session)
    assert library.sessions.get(token)
    state.delete_callback(token)
    with pytest.raises(FoirError):
        library.sessions.get(token)


def test_who_comes_when_the_queue_is_full_is_asked_to_try_again(served, monkeypatch):
    """A page for two that answers slowly: of eight at once some wait, some are asked to come again, none is lost."""
    monkeypatch.setitem(event_queue.WAITING, "everyone", Capacity(2))
    index = served.index
    searcher = Searcher(index, encoders.load("toy-words", device="cpu"))
    slowly = searcher.search

    def search(*given, **how):
        time.sleep(1)
        return slowly(*given, **how)

    monkeypatch.setattr(searcher, "search", search)
    blocks = server.launch(Collections([index.folder], lambda _, key: Controller(index, lambda: searcher, key)))
    try:
        clients = [Client(blocks.local_url, verbose=False) for _ in range(8)]
        jobs = [client.submit(item=number, k=24, api_name="/search") for number, client in enumerate(clients)]
        told = [job.exception() or len(job.result()) for job in jobs]
    finally:
        blocks.close()
    answered, refused = [t for t in told if t == 12], [t for t in told if isinstance(t, Exception)]
    assert len(answered) >= 2 and refused and len(answered) + len(refused) == 8
    assert all("try again" in str(error) for error in refused)


def test_many_at_once_lose_nothing(served):
    told = load.crowd(served.address, 8, 3.0, pictures=12)
    assert told.errors == [] and told.refused == 0 and len(told.seconds) >= 8


def test_an_endpoint_that_is_called_by_name_refuses_arguments_that_it_does_not_have(served):
    answer = httpx.post(f"{served.address}/gradio_api/call/v2/search_text", json={"data": [1]})
    assert answer.status_code == 400 and "other arguments" in answer.text
