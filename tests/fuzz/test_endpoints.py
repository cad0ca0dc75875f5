"""Any body, any header and any argument of an endpoint is answered or refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from foir import FoirError
from foir.app.api import Api
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.app.json_body import MAX_DEPTH, check_json
from foir.app.request_body import ROUTES
from foir.app.request_guard import BodyGuard, RequestGuard
from foir.app.sessions import Settings
from tests.conftest import speaking_searcher
from tests.fuzz import examples, json_values, scalars, texts

pieces = st.sampled_from(
    [b"[", b"]", b"{", b"}", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"d83d", b"\\udfff", b"0000", b"1",
     b"9" * 400,
     b"1e999", b"e+99", b"-1E+400", b"1.5e3", b"NaN", b"-Infinity", b"true", b" ", b"\0", b"\xff", b"\xed\xa0\x80",
     "ü".encode(), b"a"]
)  # fmt: skip
bodies = (
    st.binary(max_size=60)
    | st.lists(pieces, max_size=40).map(b"".join)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 60).map(lambda depth: b"[" * depth + b"]" * depth)
)


def depth(value):
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def walk(value):
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


@examples(400)
@given(bodies)
def test_what_is_parsed_later_was_checked(body):
    try:
        check_json(body)
    except FoirError:
        return
    try:
        value = json.loads(body)
    except ValueError:
        return
    assert depth(value) <= MAX_DEPTH
    assert all(math.isfinite(each) for each in walk(value) if isinstance(each, float))
    assert "\\u0000" not in json.dumps(value) or "\\\\u0000" in json.dumps(value)
    json.dumps(value, ensure_ascii=False).encode()


def test_what_programs_write_is_let_through():
    for value in ({"text": 'a \\ " [{ \u00fc \U0001f600', "k": [1, 2.5e10, -3, None, True]}, "\\ud800", "", "\\"):
        for ascii in (True, False):
            check_json(json.dumps(value, ensure_ascii=ascii).encode())


async def app(scope, receive, send):
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


NAMES = ["host", "origin", "content-length", "sec-fetch-site", "x-forwarded-host", "x-forwarded-proto", "cookie", "x"]
values = st.binary(max_size=30) | st.sampled_from(
    [b"localhost", b"[::1", b"http://[", b"9" * 5000, b"127.0.0.1:x", b"null"]
)
headers = st.lists(st.tuples(st.sampled_from(NAMES).map(str.encode), values), max_size=6)


@examples(200)
@given(
    headers,
    st.sampled_from(["GET", "POST", "PUT", "X"]),
    texts | st.sampled_from(sorted(ROUTES)).map("/gradio_api/".__add__),
    st.lists(bodies, max_size=3),
)
def test_the_guard_answers_every_request(headers, method, path, bodies):
    messages, sent = [{"type": "http.request", "body": body, "more_body": True} for body in bodies], []
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", b"localhost"), *headers]}
    call = RequestGuard(BodyGuard(app))(scope, receive, send)
    with pytest.raises(StopIteration):  # nothing waits, so it needs no event loop, which a browser test may hold
        call.send(None)
    assert sent[0]["status"] in (200, 400, 403, 404, 413)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    searcher = speaking_searcher(tmp_path_factory.mktemp("fuzz"), 4)
    return Api(Collections([searcher.index.folder], lambda _, key: Controller(searcher.index, lambda: searcher, key)))


GOOD = {"item": 1, "text": "thing 1", "k": 3, "liked": [1], "disliked": [2], "boxes": [[20, 10, 80, 70]]}
ARGUMENTS = {
    "search": [
        "image",
        "item",
        "boxes",
        "points",
        "text",
        "negative_text",
        "text_weight",
        "method",
        "heads",
        "mode",
        "k",
    ],
    "search_text": ["text", "negative_text", "k", "collection"],
    "caption": ["image", "item", "boxes", "points", "strength", "collection"],
    "feedback": ["liked", "disliked", "image", "item", "boxes", "points", "exclude", "meant", "k", "collection"],
}
near = (
    st.integers(-2, 200)
    | st.floats(-2, 200)
    | st.lists(st.lists(st.floats(-20, 180), min_size=2, max_size=4), max_size=2)
)


@examples(150)
@given(st.data(), st.sampled_from(sorted(ARGUMENTS)))
def test_endpoints_answer_or_refuse(api, data, name):
    given = {key: value for key, value in GOOD.items() if key in ARGUMENTS[name]}
    changes = st.dictionaries(st.sampled_from(ARGUMENTS[name]), json_values | near | scalars, min_size=1, max_size=3)
    given |= data.draw(changes)
    try:
        answer = getattr(api, name)(**given)
    except FoirError as error:
        str(error).encode()
    else:
        json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()


@examples(150)
@given(st.dictionaries(st.sampled_from(sorted(Settings.__dataclass_fields__)), json_values, max_size=3))
def test_settings_of_the_page(values):
    try:
        settings = Settings(**values)
    except FoirError as error:
        str(error).encode()
    else:
        assert type(settings.heads) is int and isinstance(settings.text, str)
