"""For everyone: axe-core finds nothing serious in any state of the page, and the keyboard alone is enough."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.e2e.test_page import new_results

SERIOUS = {"serious", "critical"}


def serious(page):
    """What axe-core calls serious or worse, as sentences."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {node['html'][:160]}"
        for found in violations
        if found["impact"] in SERIOUS
        for node in found["nodes"]
    ]


def unfold(page, name):
    page.get_by_text(name, exact=True).click()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_as_it_opens(visit, width):
    assert serious(visit(width)) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_unfolded_and_judged(visit, width):
    page = visit(width)
    for name in ("Search options", "Attention heads", "Captions", "Map of the collection", "Add a collection"):
        unfold(page, name)
    page.wait_for_selector(".heads button")
    page.wait_for_selector(".groups button")
    page.locator(".hit .liked").nth(1).click()
    page.locator(".hit .disliked").nth(2).click()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_answer_to_why(visit):
    page = visit()
    page.locator(".hit .why").first.click()
    page.get_by_role("dialog").wait_for()
    assert serious(page) == []


def test_in_the_dark(browser, server):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(f"{server}?__theme=dark")
    page.wait_for_selector(".stage .heat", timeout=60_000)
    assert serious(page) == []
    context.close()


def test_the_keyboard_alone_reaches_a_result_and_searches_with_it(visit):
    page = visit()
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
        )
        if reached[-1].startswith("Find similar images"):
            break
    assert reached[-1].startswith("Find similar images"), reached
    new_results(page, lambda: page.keyboard.press("Enter"))
    assert page.inner_text("#results .note").startswith("Images similar to this one")
