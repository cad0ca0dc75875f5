"""The page: open a picture, point at a thing, see the pictures that have it. Layout and wiring; no model code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from foir import encoders, methods
from foir.app import Library, Page
from foir.app.api import Endpoints
from foir.app.capabilities import Offer
from foir.app.collections import SAMPLE
from foir.app.controller import UPLOAD_BYTES
from foir.app.handlers import Events, answered, told
from foir.app.jobs import choices
from foir.app.server import Guard, alone, fetch_nothing, pictures
from foir.app.session_store import HOUR
from foir.app.sessions import WORDS
from foir.errors import FoirError
from foir.index.loader import open_index
from foir.index.protocol import IndexLike

if TYPE_CHECKING:
    from foir import Searcher

ASSETS = Path(__file__).parent / "foir" / "assets"
SWEEP = 600  # seconds between looks for files that are older than an hour
QUEUE = 32  # who comes when so many wait is asked to try again
EYES = "Seen by"
OR_HUB = "or hf://datasets/USER/NAME, an index on the Hub"
NOT_OPENED = "This page could not open just now. Load it again in a moment."
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "model", "api_visibility": "private"}
APART: dict[str, Any] = HIDDEN | {"concurrency_id": "adding", "concurrency_limit": None}

# While a search runs, what carries data of its own waits in line; of the controls it is the last state that counts.
EACH, LATEST = HIDDEN | {"trigger_mode": "multiple"}, HIDDEN | {"trigger_mode": "always_last"}


def build(library: Library) -> gr.Blocks:
    """Lay out the page and wire it."""
    menu = [(m.title, m.name) for m in methods.methods().values() if m.uses_prompt]
    menu += [(methods.title(chain), chain) for chain in ("attention_mask|phs", "foveal|phs")]
    events, programs = Events(library), Endpoints(library)
    begun = beginnings(library.page().offer)
    titles, grows = library.menu(), library.grows
    with gr.Blocks(title="foir", analytics_enabled=False, delete_cache=(SWEEP, HOUR)) as blocks:
        gr.HTML("<h1>foir</h1><p>Point at a thing. Get the pictures that have it.</p>", elem_id="title")
        session = gr.State(None, time_to_live=HOUR, delete_callback=library.visitors.forget)
        with gr.Row(elem_id="rooms"):
            with gr.Column(min_width=320, elem_id="query"):
                text = gr.Textbox(
                    label="Say what you look for",
                    show_label=False,
                    placeholder="Say what you look for, or point at it",
                    max_length=WORDS,
                    submit_btn="Find",
                    elem_id="words",
                    **begun["text"],
                )
                together = gr.Checkbox(label="Together with what I point at", elem_id="together", **begun["together"])
                small = gr.Checkbox(label="It is a small thing: look for it alone", elem_id="small", **begun["small"])
                pointer = _part("pointer", None)
                upload = gr.UploadButton("Point at a picture of your own", type="filepath", elem_id="upload")
            with gr.Column(min_width=320, elem_id="more"):
                with gr.Accordion("Fine-tuning", open=False):
                    minus = gr.Textbox(label="Without", placeholder="what they should not show", **begun["minus"])
                    mix = gr.Slider(0, 1, label="Words against what is pointed at", **begun["mix"])
                    method = gr.Dropdown(menu, label="How to look", **begun["method"])
                    other = gr.Dropdown([("nothing", ""), *menu], label="Compare with", **begun["other"])
                    h_on = gr.Slider(1, step=1, label="Attention heads kept", **begun["h_on"])
                    both = gr.Checkbox(label="Show the collection through the same heads", **begun["both"])
                    least = gr.Slider(0, 1, label="Leave out what is less alike than this", **begun["least"])
                    lean = gr.Slider(0, 2, step=0.25, label="How far the sentence leans to it", **begun["lean"])
                    outline = gr.Checkbox(label="A click means the whole thing, up to its outline", **begun["outline"])
                    where = gr.Checkbox(True, label="Show where the thing is on the first results")
                with gr.Accordion("What the heads see", **begun["looking"]) as looking:
                    heads = _part("heads", {})
                with gr.Accordion("In words", **begun["telling"]) as telling:
                    says = _part("says", **begun["says"])
                with gr.Accordion("Map of the collection", **begun["folded"]) as folded:
                    chart = _part("map", None)
                with gr.Accordion("Look in a folder of yours", visible=grows, **begun["yours"]) as yours:
                    source = gr.Textbox(label="A folder on this computer", info=OR_HUB, elem_id="source")
                    encoder = gr.Dropdown(
                        [(title, name) for name, title in choices().items()], value="mini", label=EYES
                    )
                    tiny = gr.Checkbox(False, label="Small things can be looked for too (takes some seconds a picture)")
                    go = gr.Button("Look in them", elem_id="go")
                adding = _part("adding", None)
            with gr.Column(min_width=320, elem_id="found"):
                with gr.Row(elem_id="where"):
                    collection = gr.Dropdown(
                        titles,
                        value=library.first,
                        label="Look in",
                        show_label=False,
                        container=False,
                        scale=0,
                        min_width=180,
                        visible=grows or len(titles) > 1,
                        elem_id="collection",
                    )
                    about = _part("about", **begun["about"])
                with gr.Row(elem_id="sides"):
                    results = _part("results", {"hits": [], "note": "Warming up ..."})
                    beside = _part("results", name="beside", **begun["beside"])
        why = _part("why", {})
        seen, read = gr.State(False), gr.State(False)  # whether the heads are unfolded, and the sentences
        settings: list[Any] = [method, h_on, both, text, minus, together, mix, least, small, outline]
        shown, current = [session, pointer, results, text], [session, *settings]
        controls = {
            "about": about, "text": text, "together": together, "small": small, "minus": minus, "mix": mix,
            "method": method, "other": other, "h_on": h_on, "both": both, "least": least, "lean": lean,
            "outline": outline, "looking": looking, "telling": telling, "folded": folded, "yours": yours,
            "beside": beside, "says": says,
        }  # fmt: skip

        @told
        def enter(key: str, now: str | None) -> Any:
            entered = events.enter(key, now)
            begun = beginnings(library.page(key).offer)
            return *entered[:3], False, False, *(gr.update(**begun[name]) for name in controls)

        opened = blocks.load(events.enter, [collection, session], shown, **HIDDEN)
        opened.failure(lambda: {"hits": [], "note": NOT_OPENED}, None, [results], queue=False, **HIDDEN)
        openings = [
            opened,
            collection.change(enter, [collection, session], [*shown[:3], seen, read, *controls.values()], **LATEST),
            upload.upload(events.use, [upload, collection, *current], shown, **EACH),
            *(
                part.select(events.choose, [collection, *current], shown, **EACH)
                for part in (results, pointer, chart, beside, why)
            ),
        ]
        searched = [
            text.submit(events.say, current, shown, **LATEST),
            *(part.submit(events.again, current, shown, **LATEST) for part in (minus,)),
            *(part.release(events.again, current, shown, **LATEST) for part in (mix, least, h_on)),
            *(
                part.input(events.again, current, shown, **LATEST)
                for part in (together, method, both, small, outline, where)
            ),
            pointer.submit(events.point, current, shown, **EACH),
            results.submit(events.refine, current, shown, **EACH),
            heads.select(events.force, current, shown, **EACH),
        ]
        asked, told_of = [session, where, seen, read, other, lean, *settings], [results, heads, beside, says]
        for event in (*openings, *searched):
            event.success(events.details, asked, told_of, **HIDDEN)
        folded.expand(events.chart, [collection], [chart], **HIDDEN)
        looking.expand(events.unfold, [session], [seen, heads], **HIDDEN)
        looking.collapse(lambda: False, None, [seen], **HIDDEN)
        telling.expand(events.tell, [session, lean], [read, says], **HIDDEN)
        telling.collapse(lambda: False, None, [read], **HIDDEN)
        results.click(events.why, [session], [why], **EACH)
        other.input(events.compare, [session, other, *settings], [beside], **LATEST)
        lean.release(events.lean, [session, read, lean], [says], **LATEST)
        if grows:
            gr.on([go.click, source.submit], events.add, [source, encoder, tiny], [collection, adding], **APART)
            blocks.load(events.follow, None, [collection, adding], **APART)
            adding.click(events.stop, None, None, queue=False, **APART)
        for answer in (
            programs.collections,
            programs.search,
            programs.search_text,
            programs.caption,
            programs.feedback,
        ):
            gr.events.api(answered(answer), concurrency_id="model")
    return blocks


def beginnings(offer: Offer) -> dict[str, dict[str, Any]]:
    """How the controls stand when a collection is entered."""
    settings, words = offer.settings, offer.words
    return {
        "about": {"value": offer.about},
        "text": {"value": settings.text, "visible": words},
        "together": {"value": settings.together, "visible": words},
        "small": {"value": settings.small, "visible": offer.objects},
        "minus": {"value": settings.minus, "visible": words},
        "mix": {"value": settings.mix, "visible": words},
        "method": {"value": settings.method},
        "other": {"value": ""},
        "h_on": {"value": settings.heads, "maximum": offer.heads},
        "both": {"value": settings.both, "visible": offer.cached},
        "least": {"value": settings.least},
        "lean": {"value": 1, "visible": words},
        "outline": {"value": settings.outline},
        "looking": {"open": False},
        "telling": {"open": False},
        "folded": {"open": False},
        "yours": {"open": False},
        "says": {"value": {}},
        "beside": {"value": {"hits": [], "note": ""}, "visible": False},
    }


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
        nargs="+",
        default=[said.strip() for said in os.environ.get("FOIR_INDEX", "").split(",") if said.strip()] or [SAMPLE],
        help="folders made by index_build, or hf://datasets/USER/NAME; by default FOIR_INDEX, else the sample",
    )
    parser.add_argument("--captions", metavar="MODEL", help="writes captions: blip2-captions, coca (the index's own)")
    args = parser.parse_args(argv)

    def opened(address: str | Path, key: str) -> Page:
        index = open_index(address)
        load = partial(_load, index, args.captions)
        if (
            encoders.has_zerogpu()
        ):  # models that will run beside such a GPU are loaded here and now, before the page is up
            loaded = load()
            return Page(index, lambda: loaded, key)
        return Page(index, load, key)

    try:
        library = Library(args.index, opened, grows=alone())
        for _, key in library.menu() if encoders.has_zerogpu() else ():
            library.page(key)
        blocks = launch(library)
    except FoirError as error:
        return _failed(error)
    try:
        for _, key in library.menu():  # the page is up while models load; one that cannot load ends it
            library.page(key).searcher  # noqa: B018
    except FoirError as error:
        blocks.close()
        return _failed(error)
    try:
        blocks.block_thread()
    finally:
        if library.errand is not None:
            library.errand.stop()
    return 0


def launch(library: Library) -> gr.Blocks:
    """Serve the page, for people and for programs, from threads of its own."""
    fetch_nothing()
    blocks = build(library).queue(max_size=QUEUE, api_open=False)
    blocks.launch(
        theme=gr.themes.Default(
            primary_hue="amber",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],  # Gradio's own choice would be fetched from the network
            font_mono=["ui-monospace", "monospace"],
        ).set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"),  # for contrast
        css=asset("page.css"),
        app_kwargs={"routes": pictures(library), "middleware": [Middleware(Guard)]},
        mcp_server=True,
        max_file_size=UPLOAD_BYTES,
        strict_cors=True,
        show_error=False,
        inbrowser=False,
        prevent_thread_lock=True,
    )
    return blocks


def _load(index: IndexLike, captions: str | None) -> Searcher:
    from foir import Searcher

    return Searcher.load(index, captions=captions)


def _failed(error: FoirError) -> int:
    sys.stderr.write(f"foir: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
