"""The page: open a picture, point at a thing, see the pictures that have it. Layout and wiring; no model code."""

from __future__ import annotations

import argparse
import base64
import io
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from foir import Prompt, encoders, images, methods
from foir.errors import FoirError
from foir.index import Index, Item

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from foir import Hits, Photo, Picture, Searcher

ASSETS = Path(__file__).parent / "foir" / "assets"
PLAYROOM = ASSETS / "playroom"
RESULTS, EXPLAINED = 24, 8
SHOWN_SIDE = 1280  # longer side of the picture sent to the browser; coordinates stay those of the original
HOUR = 3600
PHS = "phs"


@dataclass(frozen=True, eq=False)
class Session:
    """What one person is looking at."""

    picture: Picture
    name: str
    prompt: Prompt | None = None
    hits: Hits | None = None


class Page:
    """The handlers behind the page; they share one Searcher, which is loaded in the background."""

    def __init__(self, index: Index, load: Callable[[], Searcher]) -> None:
        self.index = index
        self._searcher: Future[Searcher] = ThreadPoolExecutor(1).submit(load)
        self._patches = lru_cache(maxsize=256)(self._read_patches)

    @property
    def searcher(self) -> Searcher:
        """The Searcher, waited for if it is still loading."""
        return self._searcher.result()

    def start(self, *settings: Any) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        """Open on some picture of the index, so that there is something to try at once."""
        return self._open_item(self.index.item(random.randrange(len(self.index))), settings)  # noqa: S311

    def upload(self, data: bytes | None, *settings: Any) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        """Open a picture of the visitor's own."""
        return self._open(images.read(data or b""), "your picture", settings)

    def choose(self, *settings: Any, event: gr.EventData) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        """Open a result as the next query."""
        return self._open_item(self.index.item(self.index.row(int(event.id))), settings)

    def point(
        self, session: Session, *settings: Any, event: gr.EventData
    ) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        """Search for what was marked; no mark searches with the whole picture."""
        prompt = Prompt.from_json(event.prompt)
        return self._search(replace(session, prompt=None if prompt.empty else prompt), settings)

    def again(self, session: Session, *settings: Any) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        """Search once more with other settings."""
        return self._search(session, settings)

    def explain(self, session: Session, wanted: bool) -> dict[str, Any]:
        """Show on the first results where the pointed thing is."""
        if not wanted or session is None or session.hits is None or session.prompt is None:
            return gr.skip()
        from foir import explain

        heats = []
        for item in session.hits.items[:EXPLAINED]:
            patches = self._patches(item.id)
            heats.append(
                explain.hit_heat(self.searcher.encoder, session.picture.prefix, session.hits.mask, patches)
            )
        return self._results(session, heats)

    def _open_item(self, item: Item, settings: Sequence[Any]) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        return self._open(images.read(self.index.picture(item)), item.file, settings)

    def _open(
        self, photo: Photo, name: str, settings: Sequence[Any]
    ) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        return self._search(Session(self.searcher.open(photo), name), settings)

    def _search(
        self, session: Session, settings: Sequence[Any]
    ) -> tuple[Session, dict[str, Any], dict[str, Any]]:
        from foir import explain

        method, heads, both, _ = settings
        options = {"h_on": int(heads)} if session.prompt and PHS in method.split("|") else {}
        hits = self.searcher.search(
            session.picture,
            session.prompt,
            method=method if session.prompt else None,
            options=options,
            mode="query-db" if both and session.prompt else "query",
            k=RESULTS,
        )
        session = replace(session, hits=hits)
        shown = session.picture.photo.image.copy()
        shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        heat = explain.query_heat(self.searcher.encoder, hits.features)
        pointer = {
            "url": _data_url(shown, "JPEG"),
            "width": session.picture.photo.size[0],
            "height": session.picture.photo.size[1],
            "name": session.name,
            "heat": _veil_url(heat, shown.size) if session.prompt else None,
        }
        return session, pointer, self._results(session, [])

    def _results(self, session: Session, heats: Sequence[np.ndarray]) -> dict[str, Any]:
        hits = session.hits
        if hits is None:
            return {"hits": [], "note": ""}
        cards = []
        for i, (item, score) in enumerate(zip(hits.items, hits.scores, strict=True)):
            heat = _veil_url(heats[i], (item.width, item.height)) if i < len(heats) else None
            card = {"id": item.id, "score": float(score), "name": item.file, "url": self._thumb_url(item)}
            cards.append({**card, "heat": heat})
        if session.prompt:
            note = "Pictures with what you pointed at, best first."
        else:
            note = "Pictures like this one. Draw a box around one thing to look for that thing."
        return {"hits": cards, "note": " ".join((note, *hits.notes))}

    def _thumb_url(self, item: Item) -> str | None:
        try:
            return f"gradio_api/file={self.index.thumb(item).resolve()}"
        except FoirError:
            return None  # the card stays, its picture does not

    def _read_patches(self, id: int) -> np.ndarray:
        searcher = self.searcher
        hit = searcher.open(self.index.thumb(self.index.item(self.index.row(id))))
        return searcher.encoder.patches(hit.prefix)[0].cpu().numpy()


def build(page: Page) -> gr.Blocks:
    """Lay out the page and wire it."""
    menu = [(m.title, m.name) for m in methods.methods().values() if m.pointed]
    menu.append(("Foveal attention, then head selection", "foveal|phs"))
    space = page.index.space("image")
    heads = encoders.card(space.encoder).heads or 16
    with gr.Blocks(title="foir", analytics_enabled=False, delete_cache=(600, HOUR)) as blocks:
        gr.HTML("<h1>foir</h1><p>Point at a thing. Get the pictures that have it.</p>", elem_id="title")
        session = gr.State(None, time_to_live=HOUR)
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                pointer = gr.HTML(
                    None, html_template=_asset("pointer.html"), js_on_load=_asset("pointer.js"), elem_id="pointer"
                )
                upload = gr.UploadButton("Use your own picture", type="binary", elem_id="upload")
                with gr.Accordion("Fine-tuning", open=False):
                    method = gr.Dropdown(menu, value=PHS, label="How to look")
                    h_on = gr.Slider(1, heads, min(5, heads), step=1, label="Attention heads kept")
                    both = gr.Checkbox(False, label="Show the collection through the same heads", visible=bool(space.z))
                    where = gr.Checkbox(True, label="Show where the thing is on the first results")
            with gr.Column(scale=7, min_width=320):
                results = gr.HTML(
                    {"hits": [], "note": "Warming up ..."},
                    html_template=_asset("results.html"),
                    js_on_load=_asset("results.js"),
                    elem_id="results",
                )
        settings: list[Any] = [method, h_on, both, where]
        shown = [session, pointer, results]
        # A finished mark comes first; whatever else waits for the model shares its one place in the queue.
        common: dict[str, Any] = {
            "outputs": shown, "show_progress": "hidden", "concurrency_id": "model", "api_visibility": "private",
        }  # fmt: skip
        events = [
            blocks.load(_told(page.start), settings, **common),
            upload.upload(_told(page.upload), [upload, *settings], **common),
            results.select(_told_event(page.choose), settings, **common),
            pointer.submit(_told_event(page.point), [session, *settings], trigger_mode="always_last", **common),
        ]
        for control in settings:
            change = control.release if isinstance(control, gr.Slider) else control.input
            events.append(change(_told(page.again), [session, *settings], **common))
        for event in events:
            event.success(
                page.explain,
                [session, where],
                [results],
                show_progress="hidden",
                concurrency_id="model",
                api_visibility="private",
            )
    return blocks


def _told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the visitor what foir refuses, in its one sentence; what is on the page stays."""

    def run(*args: Any) -> Any:
        try:
            return handler(*args)
        except FoirError as error:
            raise gr.Error(str(error), title="That did not work", duration=8, print_exception=False) from error

    return run


def _told_event(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The same for handlers that read what the browser's event carries; gradio looks for the annotation."""
    told = _told(lambda event, *args: handler(*args, event=event))

    def run(event: gr.EventData, *args: Any) -> Any:
        return told(event, *args)

    return run


def _asset(name: str) -> str:
    return (ASSETS / "page" / name).read_text(encoding="utf-8")


def _data_url(image: Image.Image, kind: str) -> str:
    out = io.BytesIO()
    image.save(out, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _veil_url(heat: np.ndarray, size: tuple[int, int]) -> str:
    """A heat map as a tiny picture of the photo's shape; the browser scales it up smoothly."""
    from foir import explain

    scale = 48 / max(size)
    return _data_url(explain.veil(heat, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))), "PNG")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page; returns the exit status. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT are honoured by Gradio."""
    parser = argparse.ArgumentParser(description="foir: search that looks where you point.")
    parser.add_argument("--index", type=Path, default=PLAYROOM, help="folder made by python -m index_build build")
    args = parser.parse_args(argv)
    try:
        index = Index.open(args.index)
    except FoirError as error:
        print(f"foir: {error}", file=sys.stderr)  # noqa: T201
        return 1

    def load() -> Searcher:
        from foir import Searcher

        return Searcher.load(args.index)

    page = Page(index, load)
    theme = gr.themes.Default(
        primary_hue="amber",
        neutral_hue="stone",
        font=["system-ui", "sans-serif"],  # Gradio's own choice would be fetched from the network
        font_mono=["ui-monospace", "monospace"],
    )
    blocks = build(page).queue(max_size=32)
    blocks.launch(
        theme=theme,
        css=_asset("page.css"),
        allowed_paths=[str((args.index / "thumbs").resolve())],
        max_file_size="20mb",
        strict_cors=True,
        show_error=False,
        inbrowser=False,
        prevent_thread_lock=True,
    )
    try:
        page.searcher  # noqa: B018 - the page is up while the model loads; a model that cannot load ends it
    except FoirError as error:
        print(f"foir: {error}", file=sys.stderr)  # noqa: T201
        blocks.close()
        return 1
    blocks.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
