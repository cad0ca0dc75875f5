"""Who a request comes from: nobody can choose who they are."""

import re

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from foir.app import clients
from foir.app.clients import COOKIE, HEADER, Client, Clients, client_of
from tests.foir.app.standins import apart


async def answer(scope, receive, send):
    """A page at "/", the client elsewhere."""
    client, request = client_of(scope), Request(scope)
    told = [client.address, client.session, request.headers.get(HEADER)]
    await (HTMLResponse("page") if request.url.path == "/" else JSONResponse(told))(scope, receive, send)


@pytest.fixture
def ask():
    app = Clients(answer)

    def ask(path, host="192.0.2.1", **headers):
        async def send():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(host, 1))) as client:
                return await client.get(f"http://page{path}", headers=headers)

        return apart(send)

    return ask


def session(answer):
    return answer.headers["set-cookie"].partition(";")[0]


def test_a_browser_gets_a_session_with_the_page_and_keeps_it(ask):
    cookie = session(ask("/"))
    address, own, _ = ask("/who", cookie=cookie).json()
    assert address == "192.0.2.1" and re.fullmatch("[0-9a-f]{32}", own)
    assert ask("/who", cookie=cookie).json() == [address, own, None]
    assert "set-cookie" not in ask("/", cookie=cookie).headers
    assert session(ask("/")) != cookie


def test_a_program_is_known_by_its_address(ask):
    answer = ask("/who")
    assert answer.json() == ["192.0.2.1", "", None] and "set-cookie" not in answer.headers
    assert ask("/who", host="2001:db8::1").json()[0] == ask("/who", host="2001:db8::ffff").json()[0] == "2001:db8::/64"
    assert ask("/who", host="::ffff:192.0.2.1").json()[0] == "192.0.2.1"


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1] + "x", lambda c: c.replace("=", "=0", 1), lambda c: f"{COOKIE}=a.b"]
)
def test_a_session_cannot_be_forged(ask, change):
    assert ask("/who", cookie=change(session(ask("/")))).json()[1] == ""
    assert ask("/who", cookie=f"{COOKIE}=\u00e9.\u00e9".encode()).json()[1] == ""


def test_the_cookie_is_the_pages_own_and_works_in_a_space(ask, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert ask("/").headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Lax")
    monkeypatch.setenv("SPACE_ID", "tester/look")
    assert "HttpOnly; SameSite=None; Secure" in ask("/").headers["set-cookie"]


def test_a_tool_call_keeps_its_client_in_the_request_it_makes(ask):
    cookie = session(ask("/"))
    address, own, signed = ask("/gradio_api/mcp/", cookie=cookie).json()
    assert ask("/who", host="127.0.0.1", **{HEADER: signed}).json()[:2] == [address, own]
    forged = signed.replace(address, "192.0.2.2")
    assert ask("/who", host="127.0.0.1", **{HEADER: forged}).json()[:2] == ["127.0.0.1", ""]
    (value,) = cookie.split("=")[1:]
    assert ask("/who", **{HEADER: value}).json()[:2] == ["192.0.2.1", ""]  # a session is no address
    sent = ask("/gradio_api/mcp/", host="192.0.2.9", **{HEADER: "forged"}).json()
    assert sent[0] == "192.0.2.9" and sent[2].startswith("192.0.2.9 ")


def test_without_an_event_there_is_no_client():
    assert clients.current_client() == Client()
    assert Client("a", "b").groups == {"client": Client("a", "b"), "address": Client("a"), "everyone": Client()}
    assert "client" not in Client("a").groups
