"""Forwarded headers count from the proxies that FOIR_PROXIES names, and from no others."""

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from foir import BadPrompt
from foir.app.proxies import Proxies
from tests.foir.app.standins import apart


def seen(peer):
    """The address of a visitor whose request comes from a peer, as the page sees it."""
    told = []

    async def app(scope, receive, send):
        told.append(scope["client"][0])

    scope = {"type": "http", "client": (peer, 1), "headers": [(b"x-forwarded-for", b"192.0.2.7, 192.0.2.1")]}
    apart(ProxyHeadersMiddleware(app, trusted_hosts=Proxies().networks), scope, None, None)
    return told[0]


def test_a_forwarded_address_is_believed_from_known_proxies_only(monkeypatch):
    monkeypatch.delenv("FOIR_PROXIES", raising=False)
    assert seen("127.0.0.1") == "127.0.0.1" and "127.0.0.1" not in Proxies()
    monkeypatch.setenv("FOIR_PROXIES", " 10.0.0.1/8 ,, 127.0.0.1")
    assert seen("10.1.2.3") == seen("127.0.0.1") == "192.0.2.1"  # what the visitor wrote before it does not count
    assert seen("192.0.2.9") == "192.0.2.9"
    assert "10.9.9.9" in Proxies() and "192.0.2.9" not in Proxies() and "testclient" not in Proxies()


def test_what_is_no_address_is_refused(monkeypatch):
    monkeypatch.setenv("FOIR_PROXIES", "proxy.example")
    with pytest.raises(BadPrompt, match="FOIR_PROXIES"):
        Proxies()


def test_on_a_space_every_peer_is_its_proxy_but_addresses_do_not_count(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "user/name")
    assert "10.0.0.1" in Proxies() and "testclient" in Proxies() and seen("10.0.0.1") == "10.0.0.1"
