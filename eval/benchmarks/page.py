"""From the end of a stroke to painted results, and where the time goes: the real page in a real browser, one run."""

from __future__ import annotations

import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from foir import Searcher
from foir.app.collections import SAMPLE, Collections
from foir.app.controller import Controller
from foir.app.server import launch
from foir.errors import Unavailable
from foir.index import Index

ROUNDS = 9
PARTS = ("encode", "prompt", "search", "gallery")
# From the end of the next stroke or click to the frame after other results are there with their pictures loaded.
WATCH = """() => new Promise((painted) => {
  const grid = document.querySelector('#results .grid'), before = grid.firstChild;
  let begun = 0;
  addEventListener('pointerup', () => { begun = performance.now(); }, {once: true, capture: true});
  const look = () => {
    const shown = (image) => image.getBoundingClientRect().top < innerHeight;
    const seen = [...grid.querySelectorAll('img.photo')].filter(shown);
    const there = begun && grid.firstChild !== before && seen.length && seen.every((image) => image.complete);
    requestAnimationFrame(there ? () => painted(performance.now() - begun) : look);
  };
  look();
})"""


# A part of a page that asks the server for nothing, and paints what comes back.
EMPTY = """
const [button, line] = element.children;
let begun = 0;
button.onclick = () => { begun = performance.now(); trigger('submit', {}); };
watch('value', () => requestAnimationFrame(() => { line.textContent = performance.now() - begun; }));
"""


def main() -> str:
    """Measure on the sample gallery; returns a Markdown table.

    Raises:
        Unavailable: No Chromium is installed.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise Unavailable("The page is measured in Chromium, which is not installed here.")
    index = Index.open(SAMPLE)
    collections = Collections([SAMPLE], lambda _, key: Controller(index, lambda: Searcher.load(index), key))
    page, spent = collections.controller(), defaultdict[str, list[float]](list)
    blocks = launch(collections)
    try:
        with _timed(page, spent):
            lines = _measure(str(blocks.local_url), chromium, spent)
    finally:
        blocks.close()
    return "\n".join([*lines, "", f"Milliseconds, medians of {ROUNDS} each."])


def _measure(address: str, chromium: str, spent: dict[str, list[float]]) -> list[str]:
    from playwright.sync_api import sync_playwright

    lines = ["| | in all | Gradio and browser | " + " | ".join(PARTS) + " |", "|---|---|---|" + "---|" * len(PARTS)]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        visit = browser.new_page(viewport={"width": 1280, "height": 900})
        visit.goto(address)
        visit.wait_for_selector(".hit .heat", timeout=120_000)
        area: Any = visit.locator(".stage canvas").bounding_box()

        def stroke(number: int) -> None:
            x, y = area["x"] + area["width"] * (0.1 + 0.04 * number), area["y"] + area["height"] * 0.3
            visit.mouse.move(x, y)
            visit.mouse.down()
            visit.mouse.move(x + 60, y + 60, steps=3)
            visit.mouse.up()

        def another(number: int) -> None:
            visit.locator(".hit .again").nth(1 + number % 5).click()

        for name, act in (("a new stroke on the same picture", stroke), ("another picture", another)):
            totals = []
            for number in range(ROUNDS + 1):
                spent.clear()
                painted = visit.evaluate_handle(f"({{ done: ({WATCH})() }})")
                act(number)
                totals.append((visit.evaluate("async (watch) => await watch.done", painted), dict(_sums(spent))))
                visit.wait_for_timeout(4000)  # heat maps and sentences follow
            lines.append(_line(name, totals[1:]))
        empty = _empty(browser.new_page())
        lines.append(f"| an empty call of Gradio | {empty:.0f} | {empty:.0f} |" + " |" * len(PARTS))
        browser.close()
    return lines


def _empty(visit: Any) -> float:
    """From a click to a painted answer where the server does nothing at all."""
    with gr.Blocks() as blocks:
        part = gr.HTML({}, html_template="<button>ask</button><p></p>", js_on_load=EMPTY, elem_id="empty")
        part.submit(lambda: {"at": time.time()}, None, [part], show_progress="hidden")
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        visit.goto(address)
        line, totals = visit.locator("#empty p"), []
        for _ in range(ROUNDS + 1):
            before = line.inner_text()
            visit.click("#empty button")
            visit.wait_for_function("b => document.querySelector('#empty p').innerText !== b", arg=before)
            totals.append(float(line.inner_text()))
    finally:
        blocks.close()
    return statistics.median(totals[1:])


def _line(name: str, totals: list[tuple[float, dict[str, float]]]) -> str:
    whole = statistics.median(total for total, _ in totals)
    parts = [statistics.median(sums[part] for _, sums in totals) for part in PARTS]
    rest = statistics.median(total - sum(sums.values()) for total, sums in totals)
    return f"| {name} | {whole:.0f} | {rest:.0f} | " + " | ".join(f"{part:.1f}" for part in parts) + " |"


def _sums(spent: dict[str, list[float]]) -> Iterator[tuple[str, float]]:
    for part in PARTS:
        yield part, sum(spent[part])


@contextmanager
def _timed(page: Controller, spent: dict[str, list[float]]) -> Iterator[None]:
    """Note what the steps of a search take, in milliseconds."""
    searcher = page.searcher
    watched = [
        ("encode", searcher, "open"),
        ("prompt", searcher, "_encode_query"),
        ("search", searcher.scorer, "top_k"),
        ("gallery", page.views, "pointer"),
        ("gallery", page.views, "results"),
    ]
    own = [(owner, name, getattr(owner, name)) for _, owner, name in watched]

    def timing(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                if len(spent["gallery"]) < 2:  # pointer and results: what comes after them is shown later
                    spent[part].append(1e3 * (time.perf_counter() - started))

        return timed

    try:
        for (part, owner, name), (_, _, call) in zip(watched, own, strict=True):
            setattr(owner, name, timing(part, call))
        yield
    finally:
        for owner, name, call in own:
            setattr(owner, name, call)
