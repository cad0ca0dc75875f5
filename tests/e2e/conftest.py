"""The real page on the sample gallery, in Debian's Chromium; skipped where no Chromium is installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def serve(folder, index=None):
    """`python app.py` as on a visitor's machine; gives its address. The log goes into `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "app.log"
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    command = [sys.executable, "app.py", *([] if index is None else ["--index", str(index)])]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail(f"app.py ended: {log.read_text()}")
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The page on its default, the sample gallery."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with serve(tmp_path_factory.mktemp("app")) as address:
        yield address


@pytest.fixture(scope="session")
def browser(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, server):
    """Opens the page at a width and waits for its first results; fails at the end on any console error."""
    opened = []
    errors: list[str] = []

    def go(width: int = 1280, height: int = 900, touch: bool = False):
        context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server)
        page.wait_for_selector(".hit img.photo", timeout=60_000)
        page.wait_for_selector(".suggestions button")
        page.wait_for_selector(".stage .heat", timeout=60_000)
        page.wait_for_selector(".hit .why", timeout=60_000)  # the model is loaded: before, the kept answer is shown
        return page

    yield go
    for context in opened:
        context.close()
    assert errors == []
