"""Bad values through every door: the page's events, the endpoints, plain requests, the Python API, the command line.

A call holds if it is answered, or refused in a sentence: nothing else is raised, logged with a traceback, or answered
with a status of 500 or more.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import logging
import random
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import gradio as gr
import httpx
import numpy as np
from PIL import Image

from foir import (
    Feedback,
    FoirError,
    Index,
    Photo,
    Prompt,
    Query,
    Searcher,
    Stroke,
    encoders,
    image_text,
    images,
    methods,
)
from foir.app import server
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.cli.main import main as command_line
from tests.conftest import scene, speaking_searcher

# Values that JSON can hold; those that it cannot are raw bodies below.
JSON_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2.5, 10**12, 10**30, 1e99, -1e99, "", "x", "\0", "5", "a" * 1000, "<b>", "..",
    "é\u202e\x1b[31m",
    [], [[]], [None], [1, 2, 3], [["x"]], [[1, 2], [3]], {}, {"a": 1}, {"path": "/etc/passwd"}, {"id": {}}, [{}],
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *JSON_VALUES, 1e308, -1e308, float("nan"), float("inf"), 1j, b"", b"\xff\0", "\ud800", object(), Path("a\0b"),
    Path(), np.nan, np.array(3), np.zeros((0, 4)), np.full((2, 2), np.nan), np.array(["x"]), np.array([object()]), (),
    (1,), {1, 2}, len, int,
    Image.new("RGB", (0, 0)), Image.new("L", (1, 1)), slice(1), range(3), iter(()), "9" * 5000,
)  # fmt: skip
EVENTS: tuple[Any, ...] = (
    *JSON_VALUES, {"id": None}, {"id": -1}, {"id": 10**30}, {"id": True}, {"id": [1]}, {"token": 5}, {"prompt": 5},
    {"prompt": {"points": 5}, "token": "t"}, {"prompt": {"boxes": [[1, 2, 3]]}, "token": "{token}"},
    {"prompt": {"strokes": [5]}, "token": "{token}"}, {"prompt": {"points": [[1e99, -1e99]]}, "token": "{token}"},
    {"head": 10**30, "token": "{token}"}, {"head": "x", "token": "{token}"}, {"liked": 5}, {"liked": [{}]},
    {"liked": [10**30]}, {"liked": [1], "disliked": [1]}, {"undo": {}}, {"undo": True}, {"fresh": "x"},
    {"liked": [True]},
)  # fmt: skip
BODIES = (
    b"", b"{", b"[]", b"null", b'"x"', b"5", b"[" * 100_000, b"{}" * 100_000, b'{"data": [NaN]}',
    b'{"data": ["\\ud800"]}',
    b'{"data": [' + b"9" * 5000 + b"]}", b'{"data": 5}', b'{"data": null}', b'{"data": {}}', b'{"data": []}',
    b"\xff\xfe",
    b'{"data": [1], "session_hash": 5}', b'{"data": [], "fn_index": "x"}', b'{"data": [], "fn_index": 1e999}',
    b'{"data": [], "fn_index": 99999, "session_hash": "s"}', b'{"data": [], "fn_index": -1, "session_hash": "s"}',
    b'{"event_id": 5, "session_hash": [], "fn_index": {}}', b'{"data": [], "event_data": 5, "trigger_id": "x"}',
)  # fmt: skip
PATHS = (
    "/", "/config", "/thumb/{key}/" + "9" * 5000, "/thumb/{key}/-1", "/thumb/{key}/1e9", "/thumb/{key}/%00",
    "/thumb/%ff/1",
    "/thumb/{key}/٣٣", "/photo/%ff", "/photo/%00", "/photo/" + "a" * 5000, "/static/%00", "/assets/../../x",
    "/assets/%ff",
    "/gradio_api/file=%00", "/gradio_api/file=/etc/passwd", "/gradio_api/file=" + "a" * 5000,
    "/gradio_api/file=http://x",
    "/gradio_api/proxy=http://[::1", "/gradio_api/proxy=x", "/gradio_api/custom_component/x/y/z/w",
    "/gradio_api/info?page=%ff",
    "/gradio_api/custom_component/" + "9" * 5000 + "/client/component/x", "/gradio_api/stream/a/b/c/playlist.m3u8",
    "/gradio_api/stream/a/b/" + "9" * 5000 + "/1.ts", "/gradio_api/upload_progress?upload_id=%00",
    "/gradio_api/queue/status",
    "/gradio_api/upload_progress", "/gradio_api/queue/data", "/gradio_api/call/search/x", "/gradio_api/call/%ff/x",
    "/gradio_api/startup-events", "/monitoring", "/monitoring/x", "/pwa_icon/x", "/pwa_icon/" + "9" * 5000,
    "/manifest.json",
    "/svelte/%ff", "/gradio_api/deep_link", "/gradio_api/deep_link?session_hash=%00", "/gradio_api/openapi.json",
    "/robots.txt",
    "/gradio_api/app_id", "/gradio_api/token", "/gradio_api/user", "/gradio_api/runs", "/?view=%ff", "/?deep_link=%00",
    "/?deep_link=..", "/gradio_api/mcp/", "/gradio_api/mcp/schema", "/gradio_api/run-history/records", "/theme.css",
    "/x%0d%0ay",
    "/gradio_api/run-history/buckets?limit=x", "/gradio_api/vibe-code", "/?__theme=%00", "/gradio_api/stream/x",
)  # fmt: skip
POSTS = (
    "call/search", "call/search_text", "call/caption", "call/feedback", "call/collections", "call/v2/search_text",
    "call/x",
    "call/%00", "queue/join", "run/search_text", "api/predict", "reset", "cancel", "component_server", "upload", "mcp/",
    "stream/x", "stream/x/close", "run-history/connect", "process_recording", "vibe-edit", "login",
)  # fmt: skip
HEADERS = (
    {"Host": "[::1"}, {"Host": "]"}, {"Host": ""}, {"Host": "\xff"}, {"Host": "a" * 5000}, {"Host": "localhost:x"},
    {"Origin": "http://[::1"}, {"Origin": "\xff"}, {"Origin": "::"}, {"Content-Length": "x"},
    {"Content-Length": "9" * 500},
    {"Cookie": "\xff=\xfe; " * 50}, {"X-Forwarded-Host": "[::1"}, {"X-Forwarded-Host": "\xff/"},
    {"X-Forwarded-Proto": "[:"},
    {"X-Forwarded-For": "9" * 500}, {"Forwarded": "for=["}, {"Accept-Encoding": "br;q=x, \xff"}, {"Range": "bytes=9-1"},
    {"Range": "bytes=" + "9" * 500 + "-"}, {"Content-Type": "multipart/form-data"},
    {"Content-Type": "application/\xff"},
    {"Content-Type": "multipart/form-data; boundary=\xff"}, {"If-None-Match": "\xff"}, {"If-Modified-Since": "never"},
    {"Accept-Language": "\xff"}, {"X-Gradio-User": "\xff"}, {"Authorization": "\xff"},
)  # fmt: skip


API = "/gradio_api/"
JSON = {"Content-Type": "application/json"}
SESSION = "s1"  # of Gradio
CASES = 400  # of each door
Case = tuple[str, Callable[[], Any]]


@dataclass
class Tally:
    """How many calls were made, and what did not hold."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)

    def try_call(self, name: str, call: Callable[[], Any]) -> None:
        """Call once; a FoirError is an answer."""
        self.calls += 1
        try:
            call()
        except (FoirError, SystemExit):
            pass
        except Exception as error:
            self.failures.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")


class Tracebacks(logging.Handler):
    """Counts the tracebacks that a server prints or logs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "Traceback" in record.getMessage():
            self.seen.append(record.getMessage()[:100] + repr(record.exc_info and record.exc_info[1])[:200])

    def print_exc(self, *_: Any, **__: Any) -> None:
        """In place of `traceback.print_exc`."""
        self.seen.append(traceback.format_exc(chain=False)[-300:])

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to all loggers that a server writes to."""
        loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error")]
        for logger in loggers:
            logger.addHandler(self)
        with mock.patch("traceback.print_exc", self.print_exc):
            yield
        for logger in loggers:
            logger.removeHandler(self)


@dataclass(frozen=True)
class Page:
    """A page that is served, and what its server complained of."""

    address: str
    blocks: Any
    collections: Collections
    client: httpx.Client
    tracebacks: Tracebacks

    def send(self, tally: Tally, name: str, call: Callable[[], int]) -> None:
        """Make a request; `call` returns the status of its answer."""
        tally.calls += 1
        before, status = len(self.tracebacks.seen), 0
        with contextlib.suppress(httpx.LocalProtocolError, httpx.RemoteProtocolError, httpx.ReadError, UnicodeError):
            status = call()
        new = self.tracebacks.seen[before:]
        if status >= 500 or new:
            tally.failures.append(f"{name}: {status} {' '.join(new)}")

    def event(self, number: int, data: Any, event_data: Any) -> int:
        """Trigger an event of the page and wait for its end; returns the status, or 500 if it does not end."""
        body = {"fn_index": number, "data": data, "event_data": event_data, "session_hash": SESSION}
        joined = self.client.post("/gradio_api/queue/join", content=json.dumps(body), headers=JSON)
        if joined.status_code == 200:
            with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": SESSION}) as answer:
                if not any("process_completed" in line for line in answer.iter_lines()):
                    return 500
        return joined.status_code

    def call(self, name: str, data: Any) -> int:
        """Call an endpoint and wait for its answer."""
        made = self.client.post(f"{API}call/{name}", json={"data": data})
        if made.status_code == 200:
            self.client.get(f"{API}call/{name}/{made.json()['event_id']}")
        return made.status_code


@contextlib.contextmanager
def serve(searcher: Searcher) -> Iterator[Page]:
    """Serve a page with one collection."""
    tracebacks, index = Tracebacks(), searcher.index
    collections = Collections([index.folder], lambda _, key: Controller(index, lambda: searcher, key))
    with mock.patch.dict("os.environ", {"GRADIO_SERVER_PORT": ""}), tracebacks.watching():
        blocks = server.launch(collections)
        address = str(blocks.local_url).rstrip("/")
        try:
            with httpx.Client(base_url=address, timeout=60) as client:
                yield Page(address, blocks, collections, client, tracebacks)
        finally:
            blocks.close(verbose=False)


def event_cases(page: Page) -> list[Case]:
    """Each event of the page: one bad value in each place, bad data of the event, another number of values."""
    controller = page.collections.controller()
    cases: list[Case] = []
    session = controller.start(controller.capabilities.settings).session
    states = page.blocks.app.state_holder[SESSION]

    def trigger(number: int, data: Any, event_data: Any) -> int:
        page.collections.sessions.put(session)
        for block in page.blocks.blocks.values():
            if isinstance(block, gr.State):
                states[block._id] = session.token if block.time_to_live else True
        return page.event(number, data, event_data)

    kinds = {(function.name, len(function.inputs)): number for number, function in page.blocks.fns.items()}
    for number in kinds.values():
        function = page.blocks.fns[number]
        if function.api_visibility != "private":
            continue
        good = [function.inputs[place].value for place in range(len(function.inputs))]
        good = [value() if callable(value) else value for value in good]
        for place, value in itertools.product(range(len(good)), JSON_VALUES):
            data = [*good[:place], value, *good[place + 1 :]]
            cases.append(
                (f"event {number} {function.name} [{place}]={value!r:.40}", partial(trigger, number, data, {}))
            )
        for value in EVENTS:
            named = json.loads(json.dumps(value).replace("{token}", session.token))
            cases.append((f"event {number} {function.name} event={value!r:.60}", partial(trigger, number, good, named)))
        for value in ([], [None] * 3, 5, {}, "x", [0] * 100):
            cases.append((f"event {number} {function.name} data={value!r:.40}", partial(trigger, number, value, {})))
    return cases


def request_cases(page: Page) -> list[Case]:
    """Plain requests: addresses, bodies and headers; and endpoints with one bad argument."""
    key, client = page.collections.default_key, page.client

    def stream(method: str, path: str, **how: Any) -> int:  # some answers never end
        with client.stream(method, path, timeout=5, **how) as answer:
            return answer.status_code

    cases: list[Case] = [(f"GET {path[:60]}", partial(stream, "GET", path.format(key=key))) for path in PATHS]
    for path, body in itertools.product(POSTS, BODIES):
        cases.append(
            (f"POST {path} {body[:40]!r}", partial(stream, "POST", f"/gradio_api/{path}", content=body, headers=JSON))
        )
    for headers, (method, path) in itertools.product(
        HEADERS, (("GET", "/"), ("GET", f"/thumb/{key}/0"), ("POST", f"{API}upload"))
    ):
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        cases.append((f"{method} {path} {headers!r:.60}", partial(stream, method, path, headers=raw)))
    for method in ("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X" * 100):
        cases += [
            (f"{method[:9]} {path}", partial(stream, method, path)) for path in ("/", f"/thumb/{key}/0", f"{API}mcp/")
        ]
    return cases


def endpoint_cases(page: Page) -> list[Case]:
    """Endpoints with one bad argument."""
    image = base64.b64encode(scene_bytes()).decode()
    cases: list[Case] = []
    good: dict[str, list[Any]] = {
        "search": [image, None, None, None, "", "", 0.5, "", None, "query", 3, ""],
        "search_text": ["thing 1", "", 3, ""],
        "caption": [image, None, None, None, None, ""],
        "feedback": [[1], [2], image, None, None, None, None, None, 3, ""],
        "collections": [],
    }

    for name, arguments in good.items():
        for place, value in itertools.product(range(len(arguments)), (*JSON_VALUES, "A" * 100, "data:;base64,AAAA")):
            data = [*arguments[:place], value, *arguments[place + 1 :]]
            cases.append((f"{name} [{place}]={value!r:.40}", partial(page.call, name, data)))
    return cases


def scene_bytes() -> bytes:
    """The PNG file of a made picture."""
    out = io.BytesIO()
    scene(3).save(out, "PNG")
    return out.getvalue()


def python_cases(searcher: Searcher) -> list[Case]:
    """The Python API: every function that the documentation names, with one bad argument."""
    image, index = searcher.open(Photo(scene(3))), Index.open(searcher.index.folder)
    prompt, item, folder = Prompt.box(20, 10, 80, 70), index.item(0), index.folder
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (Prompt, {"points": ((1, 2),), "boxes": (), "strokes": (), "mask": None}),
        (Prompt.point, {"x": 1, "y": 2}),
        (Prompt.box, {"x0": 1, "y0": 2, "x1": 30, "y1": 40}),
        (Prompt.from_json, {"data": {}}),
        (prompt.fit, {"size": (160, 120), "orientation": 1}),
        (Stroke, {"path": ((1, 2), (3, 4)), "width": 20.0}),
        (Feedback, {"liked": [1], "disliked": [2], "rule": "nn_ratio", "boxes": {1: (1, 1, 9, 9)}}),
        (Index.open, {"folder": folder}),
        (index.get, {"id": 1}),
        (index.row, {"id": 1}),
        (index.item, {"row": 1}),
        (index.sample, {"count": 2}),
        (index.vectors, {"name": "image", "ids": [1]}),
        (index.head_outputs, {"id": 1}),
        (index.objects, {"id": 1}),
        (index.space, {"name": "image"}),
        (index.subset, {"rows": [1]}),
        (index.excluded_mask, {"filters": {"file": "x"}}),
        (index.thumb, {"item": item}),
        (index.picture, {"item": item}),
        (Searcher.load, {"index": index, "device": "cpu", "dtype": "float32", "captions": None}),
        (searcher.open, {"source": scene_bytes()}),
        (searcher.caption, {"image": image, "prompt": prompt, "strength": 1.0}),
        (searcher.patch_mask, {"image": image, "prompt": prompt, "rule": "any", "window": 3}),
        (searcher.search, {"query": Query(image, prompt)}),
        (images.read, {"source": scene_bytes(), "max_bytes": 10**6, "max_pixels": 10**6}),
        (images.read_mask, {"source": scene_bytes()}),
        (methods.resolve, {"names": "phs", "options": {}}),
        (methods.title, {"names": "phs"}),
        (encoders.load, {"name": "toy-words", "device": "cpu"}),
        (image_text.load, {"model": "toy-words", "device": "cpu"}),
    ]
    cases: list[Case] = []
    for function, good in calls:
        for name, value in itertools.product(good, VALUES):
            call = partial(function, **{**good, name: value})
            cases.append((f"{function.__qualname__}({name}={value!r:.40})", call))
    fields = {
        "image": image, "prompt": prompt, "text": "thing 1", "negative_text": "thing 2", "text_weight": 0.5,
        "method": "phs",
        "options": {"h_on": 2}, "mode": "query", "k": 3, "patch_rule": "any", "window": 3,
        "feedback": Feedback([1], [2]),
        "exclude": [3], "filters": {"file": "x"},
    }  # fmt: skip

    def search(**changes: Any) -> None:
        searcher.search(Query(**{"image": image, "prompt": prompt, "k": 3, **changes}))

    def point(part: str, value: Any) -> None:
        marks: dict[str, Any] = {part: value if part == "mask" else (value,)}
        search(prompt=Prompt(**marks))

    def draw(path: Any, width: Any) -> None:
        search(prompt=Prompt(strokes=(Stroke(path, width),)))

    for name, value in itertools.product(fields, VALUES):
        cases.append((f"Query({name}={value!r:.40})", partial(search, **{name: value})))
    for part, value in itertools.product(("points", "boxes", "strokes", "mask"), VALUES):
        cases.append((f"Prompt({part}=({value!r:.40}))", partial(point, part, value)))
    for value in VALUES:
        cases.append((f"Stroke({value!r:.40})", partial(draw, value, 5)))
        cases.append((f"Stroke(width={value!r:.40})", partial(draw, ((1, 2),), value)))
        cases.append((f"option={value!r:.40}", partial(search, options={"h_on": value})))
        cases.append((f"filter={value!r:.40}", partial(search, filters={"width": value})))
    return cases


def command_cases(searcher: Searcher, image: Path) -> list[Case]:
    """The command line, with one bad argument."""
    folder, words = (
        str(searcher.index.folder),
        ("", "x", "-1", "nan", "inf", "9" * 5000, "a\0b", "\ud800", "1,2", "..", "é\n", "="),
    )
    options = ("--box", "--point", "--mask", "--device", "--text", "--negative-text", "--text-weight", "--filter",
               "--exclude",               "--method", "--heads", "--mode", "--k", "--explain")  # fmt: skip
    lines = [
        ["search", folder, str(image), "--box", "20,10,80,70", f"{option}={word}"]
        for option in options
        for word in words
    ]
    lines += [["search", folder, str(image), "--box", "20,10,80,70", "--filter", f"width={word}"] for word in words]
    lines += [["search", word, str(image)] for word in words] + [["search", folder, word] for word in words]
    lines += [["caption", word] for word in words] + [[word] for word in words] + [["encoders", word] for word in words]
    lines += [
        ["caption", str(image), f"--{name}={word}"] for name in ("strength", "model", "revision") for word in words
    ]
    return [(f"foir {' '.join(line)[-60:]!r}", partial(run_command, line)) for line in lines]


def run_command(line: list[str]) -> None:
    """Run the command line without its output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command_line(line)


def try_all(root: Path, count: int, seed: int = 0) -> Tally:
    """Try `count` cases of each door in a new folder, of the Python API, which is fast, 20 times as many."""
    tally, searcher = Tally(), speaking_searcher(root, 6)
    scene(2).save(root / "photo.png")

    def chosen(cases: list[Case], count: int = count) -> list[Case]:
        return random.Random(seed).sample(cases, min(count, len(cases)))

    for name, call in chosen(python_cases(searcher), 20 * count) + chosen(command_cases(searcher, root / "photo.png")):
        tally.try_call(name, call)
    with serve(searcher) as page:
        for name, call in chosen(event_cases(page)) + chosen(endpoint_cases(page)) + chosen(request_cases(page)):
            page.send(tally, name, call)
        page.send(tally, "what was logged late", lambda: page.call("collections", []))
    return tally


def measure() -> str:
    """Try some hundred bad values at every door; what did not hold is written to standard error."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        tally = try_all(Path(folder), CASES)
    for failure in tally.failures:
        sys.stderr.write(f"{failure}\n")
    return f"bad input: {tally.calls - len(tally.failures)} of {tally.calls} without a traceback"


if __name__ == "__main__":
    sys.stdout.write(f"{measure()}\n")
