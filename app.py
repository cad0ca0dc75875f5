"""The page: open a picture, point at a thing, see the pictures that have it. Layout and wiring; no model code."""

from __future__ import annotations

import argparse
import html
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from foir import encoders, methods
from foir.errors import FoirError
from foir.index import OBJECTS, Index
from foir.index.remote import located
from foir.page import Page
from foir.session import Session, Settings, Shown

if TYPE_CHECKING:
    from foir import Searcher

ASSETS = Path(__file__).parent / "foir" / "assets"
PLAYROOM = ASSETS / "playroom"
HOUR = 3600
WORDS = 300  # characters a text may have
SESSIONS = 64  # visitors whose pictures are kept at once; each may take some hundred MB
FEW_HEADS = 6
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "model", "api_visibility": "private"}

LATEST = HIDDEN | {"trigger_mode": "always_last"}  # what is done while a search runs is not lost


def build(page: Page) -> gr.Blocks:
    """Lay out the page and wire it."""
    menu = [(m.title, m.name) for m in methods.methods().values() if m.pointed]
    menu.append(("Attention mask, then head selection", "attention_mask|phs"))
    menu.append(("Foveal attention, then head selection", "foveal|phs"))
    space = page.index.space("image")
    speaks = "text" in page.index.spaces
    heads = space.z[0].shape[1] if space.z else encoders.card(space.encoder).heads or 16
    # Six heads are too few to tell things apart by choosing among them alone (PHS paper, Table 1, DINOv2-small).
    default = "attention_mask|phs" if heads <= FEW_HEADS else "phs"
    with gr.Blocks(title="foir", analytics_enabled=False, delete_cache=(600, HOUR)) as blocks:
        gr.HTML("<h1>foir</h1><p>Point at a thing. Get the pictures that have it.</p>", elem_id="title")
        session = gr.State(None, time_to_live=HOUR)
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
                upload = gr.UploadButton("Use your own picture", type="binary", elem_id="upload")
                with gr.Accordion("Fine-tuning", open=False):
                    minus = gr.Textbox("", label="Without", placeholder="what they should not show", visible=speaks)
                    mix = gr.Slider(0, 1, 0.5, label="Words against what is pointed at", visible=speaks)
                    method = gr.Dropdown(menu, value=default, label="How to look")
                    h_on = gr.Slider(1, heads, min(5, heads), step=1, label="Attention heads kept")
                    both = gr.Checkbox(False, label="Show the collection through the same heads", visible=bool(space.z))
                    least = gr.Slider(0, 1, 0, label="Leave out what is less alike than this")
                    lean = gr.Slider(0, 2, 1, step=0.25, label="How far the sentence leans to it", visible=speaks)
                    where = gr.Checkbox(True, label="Show where the thing is on the first results")
                with gr.Accordion("Map of the collection", open=False) as folded:
                    chart = _part("map", {})
            with gr.Column(scale=7, min_width=320):
                results = _part("results", {"hits": [], "note": "Warming up ..."})
        settings: list[Any] = [method, h_on, both, text, minus, together, mix, least, small]
        shown = [session, pointer, results]

        def start(*chosen: Any) -> Any:
            return _told(lambda: page.start(Settings(*chosen)))

        def use(data: bytes | None, *chosen: Any) -> Any:
            return _told(lambda: page.upload(data or b"", Settings(*chosen)))

        def choose(event: gr.EventData, *chosen: Any) -> Any:
            return _told(lambda: page.choose(_id(event), Settings(*chosen)))

        def point(event: gr.EventData, now: Session | None, *chosen: Any) -> Any:
            return _told(lambda: page.point(_open(now), *_marks(event), Settings(*chosen)))

        def refine(event: gr.EventData, now: Session | None, *chosen: Any) -> Any:
            return _told(lambda: page.refine(_open(now), event._data or {}, Settings(*chosen)))

        def again(now: Session | None, *chosen: Any) -> Any:
            return _told(lambda: page.search(_open(now), Settings(*chosen)))

        def say(now: Session | None, *chosen: Any) -> Any:
            return _told(lambda: page.say(_open(now), Settings(*chosen)))

        def explain(now: Session | None, wanted: bool) -> Any:
            return page.explain(now) if now is not None and wanted else gr.skip()

        def describe(now: Session | None, far: float) -> Any:
            return gr.skip() if now is None else page.describe(now, far)

        def point_out(now: Session | None, far: float) -> Any:
            return gr.skip() if now is None else page.point_out(now, far)

        opened = [
            blocks.load(start, settings, shown, **HIDDEN),
            upload.upload(use, [upload, *settings], shown, **HIDDEN),
            results.select(choose, settings, shown, **LATEST),
            pointer.select(choose, settings, shown, **LATEST),
            chart.select(choose, settings, shown, **LATEST),
        ]
        searched = [
            text.submit(say, [session, *settings], shown, **LATEST),
            minus.submit(again, [session, *settings], shown, **LATEST),
            together.input(again, [session, *settings], shown, **LATEST),
            mix.release(again, [session, *settings], shown, **LATEST),
            least.release(again, [session, *settings], shown, **LATEST),
            pointer.submit(point, [session, *settings], shown, **LATEST),
            results.submit(refine, [session, *settings], shown, **LATEST),
            method.input(again, [session, *settings], shown, **LATEST),
            h_on.release(again, [session, *settings], shown, **LATEST),
            both.input(again, [session, *settings], shown, **LATEST),
            small.input(again, [session, *settings], shown, **LATEST),
            where.input(again, [session, *settings], shown, **LATEST),
        ]
        for event in (*opened, *searched):
            event.success(explain, [session, where], [results], **HIDDEN)
        for event in opened:
            event.success(describe, [session, lean], [says], **HIDDEN)
        for event in searched:
            event.success(point_out, [session, lean], [says], **HIDDEN)
        folded.expand(page.map, None, [chart], **HIDDEN)
        lean.release(point_out, [session, lean], [says], **LATEST)
    return blocks


def _part(name: str, value: Any) -> gr.HTML:
    """A part of the page with its own script; its template is static, since names of files come from strangers."""
    return gr.HTML(value, html_template=asset(f"{name}.html"), js_on_load=asset(f"{name}.js"), elem_id=name)


def _told(step: Callable[[], Shown]) -> tuple[Session, dict[str, Any], dict[str, Any]]:
    """Run a step; what foir refuses is told in its one sentence, and everything on the page stays as it was."""
    try:
        shown = step()
    except FoirError as error:
        sentence = html.escape(str(error), quote=False)  # a toast shows markup, and a file's name may hold some
        raise gr.Error(sentence, title="That did not work", duration=8, print_exception=False) from error
    return shown.session, shown.pointer, shown.results


def _open(session: Session | None) -> Session:
    if session is None:
        raise FoirError("This page rested for over an hour and forgot its picture: choose one again.")
    return session


def _id(event: gr.EventData) -> int:
    value = (event._data or {}).get("id")
    if not isinstance(value, int):
        raise FoirError("That picture is not known here.")
    return value


def _marks(event: gr.EventData) -> tuple[dict[str, Any], str]:
    """The marks and the token of the picture they were drawn on."""
    data = event._data or {}
    marks = data.get("prompt")
    return marks if isinstance(marks, dict) else {}, str(data.get("token"))


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
        blocks = build(page).queue(max_size=32)
    except FoirError as error:
        return _failed(error)
    blocks.launch(
        theme=gr.themes.Default(
            primary_hue="amber",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],  # Gradio's own choice would be fetched from the network
            font_mono=["ui-monospace", "monospace"],
        ),
        css=asset("page.css"),
        allowed_paths=[str((index.folder / "thumbs").resolve())],
        max_file_size="20mb",
        state_session_capacity=SESSIONS,
        strict_cors=True,
        show_error=False,
        inbrowser=False,
        prevent_thread_lock=True,
    )
    try:
        page.searcher  # noqa: B018 - the page is up while the model loads; a model that cannot load ends it
    except FoirError as error:
        blocks.close()
        return _failed(error)
    blocks.block_thread()
    return 0


def _load(index: Index, captions: str | None) -> Searcher:
    from foir import Searcher

    return Searcher.load(index, captions=captions)


def _failed(error: FoirError) -> int:
    sys.stderr.write(f"foir: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
