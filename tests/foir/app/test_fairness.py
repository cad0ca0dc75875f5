"""Token buckets, and the bytes that a client may send."""

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from foir.app import fairness
from foir.app.clients import STATE, Client
from foir.app.fairness import ByteQuota, Rate, TokenBuckets
from tests.foir.app.standins import ANN, BOB, FAR, Clock, apart

RATES = {"client": Rate(3, 1), "address": Rate(5, 2)}


def test_a_client_uses_its_burst_then_what_flows_in():
    clock = Clock()
    buckets = TokenBuckets(RATES, clock)
    assert [buckets.take(ANN, 1) for _ in range(4)] == [True, True, True, False]
    assert buckets.take(BOB, 2) and not buckets.take(BOB, 1)  # the address is empty
    assert buckets.take(FAR, 3)
    clock.now = 1.0
    assert buckets.take(ANN, 1) and buckets.take(BOB, 1) and not buckets.take(ANN, 1)
    clock.now = 100.0
    assert not buckets.take(ANN, 4) and buckets.take(ANN, 3)


def test_who_has_no_session_has_the_share_of_the_address():
    buckets = TokenBuckets(RATES, Clock())
    assert [buckets.take(Client("home"), 1) for _ in range(6)] == [True] * 5 + [False]


@pytest.fixture
def send(monkeypatch):
    monkeypatch.setattr(fairness, "BYTE_RATES", {"client": Rate(100, 0), "address": Rate(250, 0)})

    async def read(scope, receive, send):
        await PlainTextResponse(str(len(await Request(scope, receive).body())))(scope, receive, send)

    quota = ByteQuota(read)

    def send(client, content):
        async def app(scope, receive, send):
            await quota({**scope, STATE: client}, receive, send)

        async def post():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
                return await http.post("http://page/", content=content)

        return apart(post)

    return send


async def pieces(count):
    for _ in range(count):
        yield b"x" * 30


def test_a_client_that_sends_too_much_is_asked_to_wait(send):
    assert send(ANN, b"x" * 90).text == "90"
    refused = send(ANN, b"x" * 20)
    assert refused.status_code == 429 and "try again" in refused.json()["detail"]
    assert send(BOB, b"x" * 90).status_code == 200
    assert send(Client("home"), b"x" * 90).status_code == 429  # the address has sent enough
    assert send(FAR, b"x" * 90).status_code == 200


def test_a_body_in_pieces_is_counted_as_it_comes(send):
    assert send(ANN, pieces(3)).text == "90"
    assert send(ANN, pieces(3)).status_code == 429
