"""The page: open a picture, point at a thing, see the pictures that have it. Layout and wiring; no model code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from foir import encoders, methods
from foir.errors import FoirError
from foir.index import OBJECTS, Index
from foir.index.remote import located
from foir.page import Page
from foir.page.endpoints import Endpoints
from foir.page.events import answered, chosen_id, marks, pressed, taken, told
from foir.page.serving import Guard, fetch_nothing, pictures
from foir.page.session import WORDS, Settings, Shown
from foir.page.steps import UPLOAD_BYTES
from foir.page.visitors import HOUR

if TYPE_CHECKING:
    from foir import Searcher

ASSETS = Path(__file__).parent / "foir" / "assets"
PLAYROOM = ASSETS / "playroom"
SWEEP = 600  # seconds between looks for files that are older than an hour
QUEUE = 32  # who comes when so many wait is asked to try again
FEW_HEADS = 6
NOT_OPENED = "This page could not open just now. Load it again in a moment."
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "model", "api_visibility": "private"}

# While a search runs, what carries data of its own waits in line; of the controls it is the last state that counts.
EACH, LATEST = HIDDEN | {"trigger_mode": "multiple"}, HIDDEN | {"trigger_mode": "always_last"}


def build(page: Page) -> gr.Blocks:
    """Lay out the page and wire it."""
    menu = [(m.title, m.name) for m in methods.methods().values() if m.pointed]
    menu += [(methods.title(chain), chain) for chain in ("attention_mask|phs", "foveal|phs")]
    space = page.index.space("image")
    speaks = "text" in page.index.spaces
    heads = space.z[0].shape[1] if space.z else encoders.card(space.encoder).heads or 16
    # Six heads are too few to tell things apart by choosing among them alone (PHS paper, Table 1, DINOv2-small).
    default = "attention_mask|phs" if heads <= FEW_HEADS else "phs"
    with gr.Blocks(title="foir", analytics_enabled=False, delete_cache=(SWEEP, HOUR)) as blocks:
        gr.HTML("<h1>foir</h1><p>Point at a thing. Get the pictures that have it.</p>", elem_id="title")
        session = gr.State(None, time_to_live=HOUR, delete_callback=page.visitors.forget)
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                text = gr.Textbox(
                    "",
                    label="Say what you look for",
                    show_label=False,
                    placeholder="Say what you look for, or point at it",
                    max_length=WORDS,
                    visible=speaks,
                    elem_id="words",
                )
                together = gr.Checkbox(False, label="Together with what I point at", visible=speaks, elem_id="together")
                small = gr.Checkbox(
                    False,
                    label="It is a small thing: look for it alone",
                    visible=OBJECTS in page.index.spaces,
                    elem_id="small",
                )
                pointer = _part("pointer", None)
                says = _part("says", {})
                upload = gr.UploadButton("Use your own picture", type="filepath", elem_id="upload")
                with gr.Accordion("Fine-tuning", open=False):
                    minus = gr.Textbox("", label="Without", placeholder="what they should not show", visible=speaks)
                    mix = gr.Slider(0, 1, 0.5, label="Words against what is pointed at", visible=speaks)
                    method = gr.Dropdown(menu, value=default, label="How to look")
                    other = gr.Dropdown([("nothing", ""), *menu], value="", label="Compare with", elem_id="other")
                    h_on = gr.Slider(1, heads, min(5, heads), step=1, label="Attention heads kept")
                    both = gr.Checkbox(False, label="Show the collection through the same heads", visible=bool(space.z))
                    least = gr.Slider(0, 1, 0, label="Leave out what is less alike than this")
                    lean = gr.Slider(0, 2, 1, step=0.25, label="How far the sentence leans to it", visible=speaks)
                    outline = gr.Checkbox(
                        bool(os.environ.get("FOIR_SAM")), label="A click means the whole thing, up to its outline"
                    )
                    where = gr.Checkbox(True, label="Show where the thing is on the first results")
                with gr.Accordion("What the heads see", open=False) as looking:
                    heads_part = _part("heads", {})
                with gr.Accordion("Map of the collection", open=False) as folded:
                    chart = _part("map", {})
            with gr.Column(scale=7, min_width=320), gr.Row():
                results = _part("results", {"hits": [], "note": "Warming up ..."})
                beside = _part("results", {"hits": [], "note": ""}, name="beside", visible=False)
        why = _part("why", {})
        seen = gr.State(False)  # whether the heads are unfolded
        settings: list[Any] = [method, h_on, both, text, minus, together, mix, least, small, outline]
        shown = [session, pointer, results]

        def shown_to(outcome: Shown, now: str | None) -> Any:
            return page.visitors.keep(outcome.session, now), outcome.pointer, outcome.results

        visit = page.visitors.find

        @told
        def start(now: str | None, *chosen: Any) -> Any:
            return shown_to(page.start(Settings(*chosen)), now)

        @told
        def use(file: str | None, now: str | None, *chosen: Any) -> Any:
            return shown_to(page.upload(taken(file), Settings(*chosen)), now)

        @told
        def choose(event: gr.EventData, now: str | None, *chosen: Any) -> Any:
            return shown_to(page.choose(chosen_id(event), Settings(*chosen)), now)

        @told
        def point(event: gr.EventData, now: str | None, *chosen: Any) -> Any:
            return shown_to(page.point(visit(now), *marks(event), Settings(*chosen)), now)

        @told
        def refine(event: gr.EventData, now: str | None, *chosen: Any) -> Any:
            return shown_to(page.refine(visit(now), event._data or {}, Settings(*chosen)), now)

        @told
        def again(now: str | None, *chosen: Any) -> Any:
            return shown_to(page.search(visit(now), Settings(*chosen)), now)

        @told
        def say(now: str | None, *chosen: Any) -> Any:
            return shown_to(page.say(visit(now), Settings(*chosen)), now)

        @told
        def force(event: gr.EventData, now: str | None, *chosen: Any) -> Any:
            return shown_to(page.force(visit(now), *pressed(event), Settings(*chosen)), now)

        @told
        def tell_why(event: gr.EventData, now: str | None) -> Any:
            return page.why(visit(now), chosen_id(event))

        @told
        def compare(now: str | None, other: str, *chosen: Any) -> Any:
            beside = page.compare(visit(now), Settings(*chosen), other) if now and other else None
            return gr.update(value=beside, visible=beside is not None)

        @told
        def unfold(now: str | None) -> Any:
            return True, page.heads(visit(now)) if now else gr.skip()

        @told
        def details(
            now: str | None, where: bool, seen: bool, other: str, lean: float, *chosen: Any, whole: bool = False
        ) -> Any:
            """What is shown a moment after the results, part by part."""
            same = gr.skip()
            if now is None:
                return
            session = visit(now)
            if where:
                yield page.explain(session), same, same, same
            if seen:
                yield same, page.heads(session), same, same
            if other:
                yield same, same, compare(now, other, *chosen), same
            yield same, same, same, page.describe(session, lean) if whole else page.point_out(session, lean)

        def details_of_another(*given: Any) -> Any:
            yield from details(*given, whole=True)

        @told
        def point_out(now: str | None, far: float) -> Any:
            return page.point_out(visit(now), far)

        openings = [
            blocks.load(start, [session, *settings], shown, **HIDDEN),
            upload.upload(use, [upload, session, *settings], shown, **EACH),
            results.select(choose, [session, *settings], shown, **EACH),
            pointer.select(choose, [session, *settings], shown, **EACH),
            chart.select(choose, [session, *settings], shown, **EACH),
            beside.select(choose, [session, *settings], shown, **EACH),
        ]
        searched = [
            text.submit(say, [session, *settings], shown, **LATEST),
            minus.submit(again, [session, *settings], shown, **LATEST),
            together.input(again, [session, *settings], shown, **LATEST),
            mix.release(again, [session, *settings], shown, **LATEST),
            least.release(again, [session, *settings], shown, **LATEST),
            pointer.submit(point, [session, *settings], shown, **EACH),
            results.submit(refine, [session, *settings], shown, **EACH),
            method.input(again, [session, *settings], shown, **LATEST),
            h_on.release(again, [session, *settings], shown, **LATEST),
            both.input(again, [session, *settings], shown, **LATEST),
            small.input(again, [session, *settings], shown, **LATEST),
            outline.input(again, [session, *settings], shown, **LATEST),
            heads_part.select(force, [session, *settings], shown, **EACH),
            where.input(again, [session, *settings], shown, **LATEST),
        ]
        asked, told_of = [session, where, seen, other, lean, *settings], [results, heads_part, beside, says]
        openings[0].failure(lambda: {"hits": [], "note": NOT_OPENED}, None, [results], queue=False, **HIDDEN)
        for event in openings:
            event.success(details_of_another, asked, told_of, **HIDDEN)
        for event in searched:
            event.success(details, asked, told_of, **HIDDEN)
        folded.expand(page.panels.map, None, [chart], **HIDDEN)
        looking.expand(unfold, [session], [seen, heads_part], **HIDDEN)
        looking.collapse(lambda: False, None, [seen], **HIDDEN)
        results.click(tell_why, [session], [why], **EACH)
        other.input(compare, [session, other, *settings], [beside], **LATEST)
        lean.release(point_out, [session, lean], [says], **LATEST)
        for_programs = Endpoints(lambda: page.searcher)
        for answer in (for_programs.search, for_programs.search_text, for_programs.caption, for_programs.feedback):
            gr.events.api(answered(answer), concurrency_id="model")
    return blocks


def _part(kind: str, value: Any, *, name: str | None = None, visible: bool = True) -> gr.HTML:
    """A part of the page with its own script; its template is static, since names of files come from strangers."""
    script, template = asset(f"{kind}.js"), asset(f"{kind}.html")
    return gr.HTML(value, html_template=template, js_on_load=script, elem_id=name or kind, visible=visible)


def asset(name: str) -> str:
    """A text file of the page."""
    return (ASSETS / "page" / name).read_text(encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page; returns the exit status. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT are honoured by Gradio."""
    parser = argparse.ArgumentParser(description="foir: search that looks where you point.")
    parser.add_argument(
        "--index",
        default=os.environ.get("FOIR_INDEX") or PLAYROOM,
        help="folder made by index_build, or hf://datasets/USER/NAME; by default FOIR_INDEX, else the sample",
    )
    parser.add_argument("--captions", metavar="MODEL", help="writes captions: blip2-captions, coca (the index's own)")
    args = parser.parse_args(argv)

    try:
        index = Index.open(located(args.index))
        page = Page(index, lambda: _load(index, args.captions))
        blocks = launch(page)
    except FoirError as error:
        return _failed(error)
    try:
        page.searcher  # noqa: B018 - the page is up while the model loads; a model that cannot load ends it
    except FoirError as error:
        blocks.close()
        return _failed(error)
    blocks.block_thread()
    return 0


def launch(page: Page) -> gr.Blocks:
    """Serve the page, for people and for programs, from threads of its own."""
    fetch_nothing()
    blocks = build(page).queue(max_size=QUEUE, api_open=False)
    blocks.launch(
        theme=gr.themes.Default(
            primary_hue="amber",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],  # Gradio's own choice would be fetched from the network
            font_mono=["ui-monospace", "monospace"],
        ).set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"),  # for contrast
        css=asset("page.css"),
        app_kwargs={"routes": pictures(page), "middleware": [Middleware(Guard)]},
        mcp_server=True,
        max_file_size=UPLOAD_BYTES,
        strict_cors=True,
        show_error=False,
        inbrowser=False,
        prevent_thread_lock=True,
    )
    return blocks


def _load(index: Index, captions: str | None) -> Searcher:
    from foir import Searcher

    return Searcher.load(index, captions=captions)


def _failed(error: FoirError) -> int:
    sys.stderr.write(f"foir: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
