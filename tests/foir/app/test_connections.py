"""Connections that stay half open, with real sockets: they are bounded, closed in time and leave nothing in the log."""

import logging
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from uvicorn import Config

from foir.app import connections
from foir.app.connections import BoundedServer

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
WAIT = 20  # seconds at most until something is closed


async def app(scope, receive, send):
    if scope["path"] == "/large":
        pieces = (b"x" * 100_000 for _ in range(1000))
        return await StreamingResponse(pieces)(scope, receive, send)
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{scope['client'][0]} {len(body)}")(scope, receive, send)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Late connections are looked for every tenth of a second."""
    monkeypatch.setattr(connections, "TICKS", 1)


@contextmanager
def serving():
    """The port of a server of `app`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = BoundedServer(Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off"))
    server.run_in_thread()
    try:
        yield port
    finally:
        server.close()


def connect(port, data=b""):
    one = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    one.sendall(data)
    return one


def is_closed(one):
    """Whether the server closes a connection within the time of the test."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "data", [b"", b"G", HALF, BODY, HALF + b"\r\n" + HALF], ids=["none", "a byte", "head", "body", "second"]
)
def test_a_client_that_sends_half_a_request_is_closed(monkeypatch, data):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.1)
    with serving() as port, connect(port, data) as one:
        while one.recv(1000) if data.startswith(HALF + b"\r\n") else not is_closed(one):
            pass


def test_a_body_that_keeps_coming_has_more_time(monkeypatch):
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.0)
    monkeypatch.setattr(connections, "BODY_RATE", 1)
    with serving() as port:
        ticks = threading.Event()
        with connect(port, BODY) as one:
            monkeypatch.setattr(
                connections.BoundedProtocol, "close_if_late", spied(connections.BoundedProtocol.close_if_late, ticks)
            )
            for _ in range(2):  # the first tick starts the clock, the second looks at it
                ticks.clear()
                one.sendall(b"x" * 100)
                assert ticks.wait(WAIT)
            one.sendall(b"x" * 796)
            assert one.recv(1000).startswith(b"HTTP/1.1 200")


def spied(method, called):
    def spy(*given):
        method(*given)
        called.set()

    return spy


def test_a_client_that_reads_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.1)
    closed = threading.Event()
    monkeypatch.setattr(
        connections.BoundedProtocol, "connection_lost", spied(connections.BoundedProtocol.connection_lost, closed)
    )
    with serving() as port, connect(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        assert closed.wait(WAIT)


def test_the_oldest_of_too_many_half_open_ones_make_room(monkeypatch):
    monkeypatch.setattr(connections, "MAX_PER_ADDRESS", 20)
    with serving() as port, ExitStack() as stack:
        first, *others = [stack.enter_context(connect(port, HALF)) for _ in range(60)]
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        assert is_closed(first)
        others[-1].sendall(b"\r\n")
        assert others[-1].recv(1000).startswith(b"HTTP/1.1 200")


def test_one_that_is_answered_makes_no_room(monkeypatch):
    monkeypatch.setattr(connections, "max_connections", lambda: 1)
    with serving() as port, connect(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as one:
        assert one.recv(9) == b"HTTP/1.1 "
        with connect(port) as two:
            assert is_closed(two)
        assert len(one.recv(100_000)) > 0


def test_trusted_proxies_bring_many(monkeypatch):
    monkeypatch.setattr(connections, "MAX_PER_ADDRESS", 2)
    monkeypatch.setenv("FOIR_PROXIES", "127.0.0.1")
    with serving() as port, ExitStack() as stack:
        all = [stack.enter_context(connect(port, HALF)) for _ in range(10)]
        for one in all:
            one.sendall(b"\r\n")
            assert one.recv(1000).startswith(b"HTTP/1.1 200")


def test_no_program_of_this_machine_says_who_the_client_is():
    with serving() as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "9.9.9.9"})
        assert answer.text == "127.0.0.1 0"


def test_what_is_no_request_is_not_logged(caplog):
    with caplog.at_level(logging.WARNING), serving() as port:
        for data in (
            b"\r\n\r\nnothing\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ):
            with connect(port, data) as one:
                assert one.recv(1000).startswith(b"HTTP/1.1 400")
        upgrade = {"Upgrade": "websocket", "Connection": "upgrade"}
        assert httpx.get(f"http://127.0.0.1:{port}/", headers=upgrade).status_code == 200
    assert caplog.records == []


FLOOD = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(1100)]
for each in opened:
    try:
        each.sendall(b"GET / HTTP/1.1\\r\\n")
    except OSError:
        pass
print("opened", flush=True)
sys.stdin.read()
"""


def test_1100_half_open_ones_stop_no_page_and_fill_no_log(monkeypatch, caplog):
    """Where the system allows a process 1,024 files; they left 161 MB of log in 25 seconds."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the system allows no client that many")
    monkeypatch.setattr(connections, "raise_file_limit", lambda files: None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with caplog.at_level(logging.INFO), serving() as port:
            command = [sys.executable, "-c", FLOOD, str(port)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
                assert client.stdout is not None and client.stdin is not None
                assert client.stdout.readline() == b"opened\n"
                assert httpx.get(f"http://127.0.0.1:{port}/", timeout=WAIT).status_code == 200
                client.stdin.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [record.getMessage() for record in caplog.records if record.name != "httpx"] == []
