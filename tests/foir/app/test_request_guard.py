"""What comes before the page: host names, bodies, forwarded headers; and the headers of every answer."""

import json
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from foir.app import json_body
from foir.app.request_body import MAX_BODY, SMALL_BODY
from foir.app.request_guard import BodyGuard, RequestGuard

JOIN, SEARCH, TEXT = "/gradio_api/queue/join", "/gradio_api/call/search", "/gradio_api/call/search_text"
MCP, UPLOAD, RESET = "/gradio_api/mcp/", "/gradio_api/upload", "/gradio_api/reset"


async def echo(scope, receive, send):
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"read {len(body)}")(scope, receive, send)


async def headers(scope, receive, send):
    await JSONResponse(dict(Request(scope).headers))(scope, receive, send)


def ask(app, method="GET", path="/", peer="127.0.0.1", **how):
    """The answer of a guarded app; asked on a thread of its own: other tests' browser keeps a loop on this one."""

    async def asking():
        transport = httpx.ASGITransport(RequestGuard(BodyGuard(ExceptionMiddleware(app))), client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **how)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, asking).result()


@pytest.mark.parametrize(
    ("host", "answer"),
    [("localhost:7860", 200), ("192.168.1.5:7860", 200), ("[::1]:7860", 200), ("look.hf.space", 200),
     ("mine.example", 200), ("a.tunnel.example", 200), ("tunnel.example", 403),
     ("elsewhere.example", 403), ("127.0.0.1.elsewhere.example", 403), ("", 403), ("[::1", 403), ("]", 403)],
)  # fmt: skip
def test_only_names_that_are_known_lead_here(monkeypatch, host, answer):
    """Any site can let its own name lead to this machine; its pages would be of one origin with the page."""
    monkeypatch.setenv("SPACE_HOST", "look.hf.space")
    monkeypatch.setenv("FOIR_HOSTS", "mine.example, Other.example, .tunnel.example")
    assert ask(echo, headers={"Host": host}).status_code == answer


@pytest.mark.parametrize("origin", ["http://[::1", "http://", "::", "null", "http://127.0.0.1@elsewhere.example"])
def test_an_origin_that_is_none_is_another_site(origin):
    assert ask(echo, headers={"Origin": origin}).status_code == 403
    assert ask(echo, headers={"Origin": "http://127.0.0.1"}).status_code == 200


def send_pieces(path, pieces):
    """The answer to a body in pieces whose length was not told, and how much of it was read."""
    read = []

    async def body():
        for piece in pieces:
            read.append(len(piece))
            yield piece

    return ask(echo, "POST", path, content=body()), sum(read)


@pytest.mark.parametrize(("path", "limit"), [(JOIN, MAX_BODY), (TEXT, SMALL_BODY), (UPLOAD, 20_100_000)])
def test_a_body_is_read_no_further_than_its_limit(path, limit):
    piece = 1_000_000 if limit > 1_000_000 else 10_000
    answer, read = send_pieces(path, (b"1" * piece for _ in range(100)))
    assert (answer.status_code, answer.text) == (413, "The request is too large.")
    assert limit < read <= limit + piece


def test_the_length_that_is_told_counts_too():
    for length in (str(MAX_BODY + 1), "9" * 5000, "-1", "many"):
        assert ask(echo, "POST", JOIN, headers={"Content-Length": length}).status_code == 413


def test_only_what_carries_an_image_may_be_large():
    image = json.dumps({"data": ["A" * 2_000_000]}).encode()
    for path in (JOIN, SEARCH, MCP, "/root/gradio_api/call/caption/"):
        assert ask(echo, "POST", path, content=image).text == f"read {len(image)}"
    for path in (TEXT, RESET):
        assert ask(echo, "POST", path, content=image).status_code == 413
        assert ask(echo, "POST", path, content=image[:40] + b'"]}').status_code == 200


def test_brackets_are_counted_before_anything_is_parsed():
    """Thirty million of them stopped the server for 23 seconds."""
    for piece in (b"[]" * 500_000, b"{}," * 300_000, b'"",' * 300_000, b"\\n" * 500_000):
        answer, read = send_pieces(JOIN, (piece for _ in range(30)))
        assert (answer.status_code, answer.text) == (413, "The request holds too many elements.")
        assert read == len(piece)


def test_the_largest_prompt_passes():
    boxes = [[0.123456789012345, 1.5, 100.25, 200.75]] * 10_000
    body = json.dumps({"data": [None, boxes], "event_data": {"prompt": {"boxes": boxes[:5000]}}}).encode()
    assert ask(echo, "POST", JOIN, content=body).text == f"read {len(body)}"


DEEP = json_body.MAX_DEPTH


@pytest.mark.parametrize(
    "body",
    [b"[" * (DEEP + 1) + b"]" * (DEEP + 1), b'{"a":' * (DEEP + 1) + b"1" + b"}" * (DEEP + 1),
     b"[NaN]", b"[-Infinity]", b"[1e999]", b"[99e0000307]", b"[-12.5E+400]",
     b"[" + b"9" * 5000 + b"]", b"[" + b"1 " * 1_500_000 + b"]", rb'["\ud800"]', rb'["\uDFFF a"]', rb'["\ud83d\u0041"]',
     rb'["a\u0000b"]', rb'["\\\ud800"]', b'["\xed\xa0\x80"]', b'["\xff"]', '["ü"]'.encode("utf-16"), b"[1\0]"],
)  # fmt: skip
def test_what_code_behind_the_parser_chokes_on_is_refused_in_a_sentence(body):
    answer = ask(echo, "POST", JOIN, content=body)
    assert answer.status_code == 400 and answer.text.startswith("The request ") and answer.text.endswith(".")


@pytest.mark.parametrize(
    "value",
    [
        "[[[[[" * 20,
        "\ud83d\ude00 ü",
        '"NaN" \\ "[',
        "\\ud800",
        "Infinity",
        1e99,
        -1.5e-300,
        -(10**199),
        [[[[[]]]]],
        "\\\\u0000",
        "\\",
    ],
)
def test_what_only_looks_like_it_passes(value):
    for escaped in (True, False):
        text = json.dumps([value, value], ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        text = text if escaped or value != "\ud83d\ude00 ü" else json.dumps("😀 ü").encode()
        assert ask(echo, "POST", JOIN, content=text).text == f"read {len(text)}"


def test_no_address_holds_a_control_character():
    for path in ("/gradio_api/file=a%00b", "/static/%00", "/photo/%0a", "/assets/%1b%5b31m"):
        assert ask(echo, path=path).status_code == 400
    assert ask(echo, path="/static/%C3%BC%20b.js").status_code == 200


def test_every_answer_says_what_a_browser_may_do_with_it(monkeypatch):
    for answer in (ask(echo), ask(echo, headers={"Host": "elsewhere.example"})):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'self'" and policy["object-src"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
    monkeypatch.setenv("SPACE_ID", "user/name")
    framers = "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
    assert framers in ask(echo).headers["content-security-policy"]


FORWARDED = {"X-Forwarded-Host": "mine.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "9.9.9.9"}


@pytest.mark.parametrize(
    ("proxies", "peer", "host", "proto", "kept"),
    [("", "127.0.0.1", "mine.example", "https", False), ("10.0.0.1", "127.0.0.1", "mine.example", "https", False),
     ("10.0.0.1, 10.0.0.2", "10.0.0.2", "mine.example", "https", True),
     ("10.0.0.1", "10.0.0.1", "elsewhere.example", "gopher", False)],
)  # fmt: skip
def test_forwarded_names_count_from_proxies_that_are_trusted(monkeypatch, proxies, peer, host, proto, kept):
    monkeypatch.setenv("FOIR_HOSTS", "mine.example")
    monkeypatch.setenv("FOIR_PROXIES", proxies)
    sent = FORWARDED | {"X-Forwarded-Host": host, "X-Forwarded-Proto": proto}
    got = ask(headers, peer=peer, headers=sent).json()
    assert (got["x-forwarded-host"], got["x-forwarded-proto"]) == ((host, proto) if kept else ("", ""))
    assert got["x-forwarded-for"] == "9.9.9.9"  # who comes through a proxy is still seen to


def test_a_space_is_behind_its_proxy(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "user/name")
    monkeypatch.setenv("SPACE_HOST", "user-name.hf.space")
    got = ask(headers, headers=FORWARDED | {"X-Forwarded-Host": "user-name.hf.space, inner"}).json()
    assert got["x-forwarded-host"] == "user-name.hf.space, inner" and got["x-forwarded-proto"] == "https"
    assert ask(headers, headers=FORWARDED).json()["x-forwarded-host"] == ""


def test_a_websocket_is_closed():
    sent = []

    async def receive():
        raise AssertionError("nothing is read")

    async def connect():
        async def send(message):
            sent.append(message)

        await RequestGuard(echo)({"type": "websocket", "path": "/"}, receive, send)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(anyio.run, connect).result()
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "X"])
def test_only_what_the_page_needs_of_gradio_is_called(method):
    for path in ("/", "/login", "run/search", "api/predict", "call/x", "component_server", "vibe-edit"):
        path = path if path.startswith("/") else f"/gradio_api/{path}"
        assert ask(echo, method, path).status_code == 404
