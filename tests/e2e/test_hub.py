"""The page on an index of the Hub, as a Space opens it: FOIR_INDEX=hf://datasets/USER/NAME."""

from index_build.pipeline import Plan, build
from index_build.publish import publish
from tests import standin_hub
from tests.conftest import draw
from tests.e2e.conftest import serve

hub_server = standin_hub.hub


def test_the_page_opens_an_index_of_the_hub(browser, hub_server, tmp_path, monkeypatch):
    build(Plan(draw(tmp_path / "pictures", 6), tmp_path / "index", "mini", heads=True, device="cpu"))
    address = publish(tmp_path / "index", "somebody/scenes")
    monkeypatch.setenv("FOIR_INDEX", address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    with serve(tmp_path) as page_address:
        page = browser.new_context().new_page()
        page.goto(page_address)
        page.wait_for_selector(".hit img.photo", timeout=60_000)
        shown = page.locator(".hit img.photo")
        assert shown.count() >= 5
        assert shown.first.evaluate("image => image.naturalWidth") > 0
        page.context.close()
    fetched = [
        request.path for request in hub_server.requests if request.method == "GET" and "/resolve/" in request.path
    ]
    assert fetched and all(address.split("@")[1] in path for path in fetched)
