"""Layout of the page, one function a region, and the events that connect it to the handlers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import gradio as gr

from foir import methods
from foir.app.api import Api
from foir.app.capabilities import Capabilities
from foir.app.checked_blocks import CheckedBlocks
from foir.app.collections import Collections
from foir.app.handlers import Handlers, report_errors
from foir.app.jobs import encoder_choices
from foir.app.opening import Opening
from foir.app.sessions import MAX_TEXT, Settings
from foir.app.uploads import UPLOAD_SECONDS

ASSETS = Path(__file__).parent / "assets"
SWEEP = 60  # seconds between two looks for files of Gradio that are too old
CHAINS = ("attention_mask|phs", "foveal|phs")
OUTLINED = ("results", "explanation")  # components that outline regions
TEXT_CONTROLS = ("text", "combine_text", "negative_text", "text_weight", "strength")
PAGE = ("session", "pointer", "results", "text")  # what a search changes
FOLDS = ("heads_fold", "captions_fold", "map_fold", "duplicates_fold", "add_fold")
NOT_OPENED = "The page could not be opened. Reload it in a moment."

Components = dict[str, Any]  # Gradio components by name; each field of Settings names one
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "model", "api_visibility": "private"}
JOB: dict[str, Any] = HIDDEN | {"concurrency_id": "job", "concurrency_limit": None}
# During a search, events that carry data wait in line; of a control, only the last state counts.
QUEUED, LATEST = HIDDEN | {"trigger_mode": "multiple"}, HIDDEN | {"trigger_mode": "always_last"}


def build(collections: Collections) -> gr.Blocks:
    """Build the page and its API."""
    initial, can_add = initial_state(collections.controller().capabilities), collections.can_add
    opening = collections.opening() or {"pointer": None, "results": {"hits": [], "note": "Loading the model ..."}}
    with CheckedBlocks(title="foir", analytics_enabled=False, delete_cache=(SWEEP, UPLOAD_SECONDS)) as blocks:
        gr.HTML("<h1>foir</h1><p>Point at an object. Find images with it.</p>", elem_id="title")
        ui: Components = {"session": gr.State(None, delete_callback=collections.sessions.drop)}
        with gr.Row(elem_id="columns"):
            with gr.Column(min_width=320, elem_id="query"):
                ui |= _query_column(initial, opening)
            with gr.Column(min_width=320, elem_id="options"):
                ui |= (
                    _search_options(initial)
                    | _details(initial, can_add=can_add)
                    | _add_collection(initial, visible=can_add)
                )
            with gr.Column(min_width=320, elem_id="output"):
                ui |= _results_column(initial, collections, opening)
        ui["explanation"] = _component("explanation", {})
        ui["heads_open"], ui["captions_open"] = gr.State(False), gr.State(False)
        handlers, api = Handlers(collections), Api(collections)
        # First, since Gradio names endpoints after functions and renames later ones of the same name.
        for endpoint in (api.collections, api.search, api.search_text, api.caption, api.feedback):
            reported: Any = report_errors(escape=False)(endpoint)
            reported.__signature__ = inspect.signature(endpoint)  # without self
            gr.events.api(reported, concurrency_id="model")
        _connect_searches(blocks, ui, handlers)
        _connect_details(ui, handlers)
        if can_add:
            _connect_job(blocks, ui, handlers)
    return blocks


def initial_state(capabilities: Capabilities, *, watched: bool = False) -> dict[str, dict[str, Any]]:
    """Properties of the components after a collection is opened, by name; `watched`: it is kept up to date."""
    state: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in asdict(capabilities.settings).items()}
    state |= {name: {"open": False} for name in FOLDS}
    state |= {
        "about": {"value": capabilities.about},
        "compare_with": {"value": ""},
        "strength": {"value": 1},
        "captions": {"value": {}},
        "comparison": {"value": {"hits": [], "note": ""}, "visible": False},
        "map": {"value": None},
        "duplicates": {"value": None},
        "watch": {"value": watched, "visible": capabilities.follows_folder},
    }
    for name in TEXT_CONTROLS:
        state[name]["visible"] = capabilities.has_text
    state["query_db"]["visible"] = capabilities.has_head_cache
    state["context"]["visible"] = capabilities.has_regions
    state["heads"]["maximum"] = capabilities.heads
    facets = capabilities.facets
    state["date"]["visible"] = facets.dated
    for name, values in (("folder", facets.folders), ("camera", facets.cameras)):
        state[name] |= {"choices": [("any", ""), *((value, value) for value in values)], "visible": bool(values)}
    return state


def _query_column(initial: dict[str, dict[str, Any]], opening: Opening) -> Components:
    """The text query, the query image to point at, and the upload."""
    return {
        "text": gr.Textbox(
            label="Describe what you are looking for",
            show_label=False,
            placeholder="Describe an object, or point at it",
            max_length=MAX_TEXT,
            submit_btn="Search",
            elem_id="text",
            **initial["text"],
        ),
        "combine_text": gr.Checkbox(
            label="Combine with the marked object", elem_id="combine_text", **initial["combine_text"]
        ),
        "pointer": _component("pointer", opening["pointer"]),
        "upload": _upload_button(),
    }


def _upload_button() -> gr.UploadButton:
    """A button whose handler gets the path of the file; Gradio's own would leave an empty file for each."""
    button = gr.UploadButton("Use your own image", type="filepath", elem_id="upload")
    button.preprocess = lambda file: getattr(file, "path", None)  # type: ignore[method-assign, assignment]
    return button


def _search_options(initial: dict[str, dict[str, Any]]) -> Components:
    """The controls of the search."""
    choices = [(method.title, method.name) for method in methods.methods().values() if method.uses_prompt]
    choices += [(methods.title(chain), chain) for chain in CHAINS]
    with gr.Accordion("Search options", open=False):
        return {
            "negative_text": gr.Textbox(
                label="Without", placeholder="what the results should not show", **initial["negative_text"]
            ),
            "text_weight": gr.Slider(0, 1, label="Weight of the text against the image", **initial["text_weight"]),
            "method": gr.Dropdown(choices, label="Method", **initial["method"]),
            "compare_with": gr.Dropdown([("none", ""), *choices], label="Compare with", **initial["compare_with"]),
            "context": gr.Slider(0, 1, label="Weight of the scene around the object", **initial["context"]),
            "heads": gr.Slider(1, step=1, label="Number of attention heads", **initial["heads"]),
            "query_db": gr.Checkbox(label="Apply the same heads to the collection", **initial["query_db"]),
            "min_score": gr.Slider(0, 1, label="Minimum similarity", **initial["min_score"]),
            "strength": gr.Slider(0, 2, step=0.25, label="Caption focus on the marked object", **initial["strength"]),
            "outline": gr.Checkbox(label="A click selects the whole object", **initial["outline"]),
            "date": gr.Textbox(label="Taken", placeholder="2024-06, or 2024-06..2024-08", **initial["date"]),
            "folder": gr.Dropdown(label="Folder", **initial["folder"]),
            "camera": gr.Dropdown(label="Camera", **initial["camera"]),
            "show_heatmaps": gr.Checkbox(False, label="Show heat maps on the first results"),
        }


def _details(initial: dict[str, dict[str, Any]], *, can_add: bool) -> Components:
    """Attention heads, captions, the map of the collection and its duplicates, all folded."""
    with gr.Accordion("Attention heads", **initial["heads_fold"]) as heads_fold:
        head_maps = _component("heads", {})
    with gr.Accordion("Captions", **initial["captions_fold"]) as captions_fold:
        captions = _component("captions", **initial["captions"])
    with gr.Accordion("Map of the collection", **initial["map_fold"]) as map_fold:
        collection_map = _component("map", None)
    with gr.Accordion("Duplicates", visible=can_add, **initial["duplicates_fold"]) as duplicates_fold:
        duplicates = _component("duplicates", None)
    folds = {"heads_fold": heads_fold, "captions_fold": captions_fold, "map_fold": map_fold}
    views = {"head_maps": head_maps, "captions": captions, "map": collection_map, "duplicates": duplicates}
    return {**folds, "duplicates_fold": duplicates_fold, **views}


def _add_collection(initial: dict[str, dict[str, Any]], *, visible: bool) -> Components:
    """The form that adds a collection, and the progress of the job."""
    encoders = [(label, name) for name, label in encoder_choices().items()]
    with gr.Accordion("Add a collection", visible=visible, **initial["add_fold"]) as add_fold:
        form = {
            "source": gr.Textbox(
                label="Folder on this computer",
                info="or hf://datasets/USER/NAME, an index on the Hub",
                elem_id="source",
            ),
            "encoder": gr.Dropdown(encoders, value="mini", label="Encoder"),
            "tiles": gr.Checkbox(False, label="Look for small things too (takes about five times as long)"),
            "add": gr.Button("Add", elem_id="add"),
        }
        watch = gr.Checkbox(label="Keep the folder that is shown up to date", elem_id="watch", **initial["watch"])
    return {"add_fold": add_fold, **form, "watch": watch, "job": _component("job", None)}


def _results_column(initial: dict[str, dict[str, Any]], collections: Collections, opening: Opening) -> Components:
    """The choice of the collection, and the results."""
    titles = collections.choices()
    with gr.Row(elem_id="collection-row"):
        collection = gr.Dropdown(
            titles,
            value=collections.default_key,
            label="Search in",
            show_label=False,
            container=False,
            scale=0,
            min_width=180,
            visible=collections.can_add or len(titles) > 1,
            elem_id="collection",
        )
        about = _component("about", **initial["about"])
    with gr.Row(elem_id="result-lists"):
        results = _component("results", opening["results"])
        comparison = _component("results", name="comparison", **initial["comparison"])
    return {"collection": collection, "about": about, "results": results, "comparison": comparison}


def _component(kind: str, value: Any, *, name: str | None = None, visible: bool = True) -> gr.HTML:
    """A component with its own script. Its template is static, since file names come from strangers."""
    script, template = read_asset(f"{kind}.js"), read_asset(f"{kind}.html")
    if kind in OUTLINED:
        script = read_asset("regions.js") + script
    return gr.HTML(value, html_template=template, js_on_load=script, elem_id=name or kind, visible=visible)


def read_asset(name: str) -> str:
    """Read a text file of the page."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _connect_searches(blocks: gr.Blocks, ui: Components, handlers: Handlers) -> None:
    """Connect all events that search; each is followed by the details."""
    settings = [ui[field.name] for field in fields(Settings)]
    inputs = ["session", "show_heatmaps", "heads_open", "captions_open", "compare_with", "strength"]
    outputs = [ui[name] for name in ("results", "head_maps", "comparison", "captions")]
    current, page = [ui["session"], *settings], [ui[name] for name in PAGE]
    for event in (*_opening_events(blocks, ui, handlers, current, page), *_search_events(ui, handlers, current, page)):
        event.success(handlers.details, [*(ui[name] for name in inputs), *settings], outputs, **HIDDEN)
    compare_inputs = [ui["session"], ui["compare_with"], *settings]
    ui["compare_with"].input(handlers.compare, compare_inputs, [ui["comparison"]], **LATEST)


def _opening_events(
    blocks: gr.Blocks, ui: Components, handlers: Handlers, current: list[Any], page: list[Any]
) -> Iterator[Any]:
    """Events that open a collection or an image."""
    reset = list(initial_state(handlers.collections.controller().capabilities))

    @report_errors()
    def open_collection(key: str, token: str | None) -> Any:
        session, pointer, results, _ = handlers.open_collection(key, token)
        capabilities = handlers.collections.controller(key).capabilities
        initial = initial_state(capabilities, watched=handlers.collections.watches.watches(key))
        return session, pointer, results, False, False, *(gr.update(**initial[name]) for name in reset)

    chosen = [ui["collection"], ui["session"]]
    everything = [*page[:3], ui["heads_open"], ui["captions_open"], *(ui[name] for name in reset)]
    loaded = blocks.load(open_collection, chosen, everything, **HIDDEN)
    failed = {"hits": [], "note": NOT_OPENED}
    loaded.failure(lambda: (None, failed), None, [ui["pointer"], ui["results"]], queue=False, **HIDDEN)
    yield loaded
    yield ui["collection"].change(open_collection, chosen, everything, **LATEST)
    yield ui["upload"].upload(handlers.upload, [ui["upload"], ui["collection"], *current], page, **QUEUED)
    for name in ("results", "pointer", "map", "comparison", "explanation", "duplicates"):
        yield ui[name].select(handlers.choose, [ui["collection"], *current], page, **QUEUED)


def _search_events(ui: Components, handlers: Handlers, current: list[Any], page: list[Any]) -> Iterator[Any]:
    """Events that search again."""
    yield ui["text"].submit(handlers.search_text, current, page, **LATEST)
    for name in ("negative_text", "date"):
        yield ui[name].submit(handlers.search, current, page, **LATEST)
    for name in ("text_weight", "context", "min_score", "heads"):
        yield ui[name].release(handlers.search, current, page, **LATEST)
    for name in ("combine_text", "method", "query_db", "outline", "folder", "camera", "show_heatmaps"):
        yield ui[name].input(handlers.search, current, page, **LATEST)
    yield ui["pointer"].submit(handlers.point, current, page, **QUEUED)
    yield ui["results"].submit(handlers.refine, current, page, **QUEUED)
    yield ui["head_maps"].select(handlers.switch_head, current, page, **QUEUED)


def _connect_details(ui: Components, handlers: Handlers) -> None:
    """Connect the folded views and the explanation of a result."""
    session, strength, heads_open, captions_open = (
        ui[name] for name in ("session", "strength", "heads_open", "captions_open")
    )
    ui["map_fold"].expand(handlers.open_map, [ui["collection"]], [ui["map"]], **HIDDEN)
    ui["duplicates_fold"].expand(handlers.open_duplicates, [ui["collection"]], [ui["duplicates"]], **JOB)
    ui["heads_fold"].expand(handlers.open_heads, [session], [heads_open, ui["head_maps"]], **HIDDEN)
    ui["heads_fold"].collapse(lambda: False, None, [heads_open], **HIDDEN)
    ui["captions_fold"].expand(handlers.open_captions, [session, strength], [captions_open, ui["captions"]], **HIDDEN)
    ui["captions_fold"].collapse(lambda: False, None, [captions_open], **HIDDEN)
    ui["results"].click(handlers.explain, [session], [ui["explanation"]], **QUEUED)
    strength.release(handlers.steer_captions, [session, captions_open, strength], [ui["captions"]], **LATEST)


def _connect_job(blocks: gr.Blocks, ui: Components, handlers: Handlers) -> None:
    """Connect the form that adds a collection."""
    form, progress = [ui[name] for name in ("source", "encoder", "tiles")], [ui["collection"], ui["job"]]
    gr.on([ui["add"].click, ui["source"].submit], handlers.start_job, form, progress, **JOB)
    blocks.load(handlers.follow_job, None, progress, **JOB)
    ui["job"].click(handlers.stop_job, None, None, queue=False, **JOB)
    discarded = ui["duplicates"].submit(handlers.discard, [ui["collection"]], progress, **JOB)
    discarded.then(handlers.open_duplicates, [ui["collection"]], [ui["duplicates"]], **JOB)
    again = [ui[name] for name in ("session", *(field.name for field in fields(Settings)))]
    discarded.success(handlers.search, again, [ui[name] for name in PAGE], **HIDDEN)
    ui["watch"].input(handlers.watch, [ui["collection"], ui["watch"]], [ui["watch"]], **JOB)
