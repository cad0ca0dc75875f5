"""Handlers of the page's events: what a click, a mark or a changed control does."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from foir.app.clients import current_client
from foir.app.collections import Collections
from foir.app.controller import Controller
from foir.app.pictures import UPLOAD_BYTES
from foir.app.proxies import came_through_proxy
from foir.app.sessions import PageUpdate, Settings
from foir.errors import BadImage, BadPrompt, FoirError

POLL = 0.4  # seconds between two looks at the progress of a job


@contextmanager
def report_errors(*, escape: bool = True) -> Iterator[None]:
    """Report a FoirError as its sentence; the page stays as it was. Also a decorator of functions, not of generators.

    Args:
        escape: Escape HTML, since the page renders it and a file name may contain some; False for the API.
    """
    try:
        yield
    except FoirError as error:
        message = html.escape(str(error), quote=False) if escape else str(error)
        raise gr.Error(message, title="That did not work", duration=8, print_exception=False) from error


def take_upload(file: str | None) -> bytes:
    """Read an uploaded file and delete it at once, since anyone who knows its name could download it."""
    if file is None:
        return b""
    path = Path(file)
    try:
        data = path.read_bytes() if path.stat().st_size <= UPLOAD_BYTES else None
        path.unlink()
    except OSError as error:  # it waited for too long
        raise BadImage("The upload was lost: try again.") from error
    if data is None:
        raise BadImage(f"The upload is larger than {UPLOAD_BYTES // 1_000_000} MB.")
    return data


def event_fields(event: gr.EventData) -> dict[str, Any]:
    """The data of an event; empty where it carries none."""
    return event._data if isinstance(event._data, dict) else {}


def item_id(event: gr.EventData) -> int:
    """The id of the image that an event names."""
    id = event_fields(event).get("id")
    if type(id) is not int:
        raise FoirError("There is no such image here.")
    return id


class Handlers:
    """Handlers of the controls.

    A user is known by the token of the session. `values` are the values of the controls, in the order of the fields of
    `Settings`. Handlers that search return the values of session, pointer, results and text.
    """

    def __init__(self, collections: Collections) -> None:
        """Bind to the collections."""
        self.collections = collections

    def _update(self, update: PageUpdate, token: str | None) -> Any:
        """Store the session; clear the text field if its text was searched for before and no longer counts."""
        try:
            searched_text = "text" in self.collections.sessions.get(token).texts
        except FoirError:
            searched_text = False
        text = "" if searched_text and "text" not in update.session.texts else gr.skip()
        token = self.collections.sessions.put(update.session, token, current_client())
        return token, update.pointer, update.results, text

    @report_errors()
    def open_collection(self, key: str, token: str | None) -> Any:
        """Open a collection with its initial settings."""
        controller = self.collections.controller(key)
        return self._update(controller.start(controller.capabilities.settings), token)

    @report_errors()
    def upload(self, file: str | None, key: str, token: str | None, *values: Any) -> Any:
        """Open a user's own image."""
        controller = self.collections.controller(key)
        return self._update(controller.upload(take_upload(file), Settings(*values)), token)

    @report_errors()
    def choose(self, event: gr.EventData, key: str, token: str | None, *values: Any) -> Any:
        """Open an image of the collection."""
        try:
            controller, _ = self.collections.resume(token)  # the image belongs to the collection of the session
        except FoirError:
            controller = self.collections.controller(key)
        return self._update(controller.choose(item_id(event), Settings(*values)), token)

    @report_errors()
    def _search(self, user: str | None, values: Sequence[Any], action: Callable[..., PageUpdate], **data: Any) -> Any:
        """Search again with an action of the controller."""
        controller, session = self.collections.resume(user)
        return self._update(action(controller, session, settings=Settings(*values), **data), user)

    def search(self, token: str | None, *values: Any) -> Any:
        """Search again with other settings."""
        return self._search(token, values, Controller.search)

    def search_text(self, token: str | None, *values: Any) -> Any:
        """Search for the text."""
        return self._search(token, values, Controller.search_text)

    def point(self, event: gr.EventData, token: str | None, *values: Any) -> Any:
        """Search for the marked object."""
        data = event_fields(event)
        marks = data.get("prompt")
        marks = marks if isinstance(marks, dict) else {}
        with report_errors():
            if data.get("late") and self.collections.resume(token)[1].token != data.get("token"):
                return (gr.skip(),) * 4  # another image was chosen while the model was loading
        return self._search(token, values, Controller.point, marks=marks, token=str(data.get("token")))

    def refine(self, event: gr.EventData, token: str | None, *values: Any) -> Any:
        """Search again with feedback."""
        return self._search(token, values, Controller.refine, feedback=event_fields(event))

    def switch_head(self, event: gr.EventData, token: str | None, *values: Any) -> Any:
        """Switch an attention head on or off."""
        data = event_fields(event)
        return self._search(token, values, Controller.switch_head, head=data.get("head"), token=str(data.get("token")))

    @report_errors()
    def explain(self, event: gr.EventData, token: str | None) -> Any:
        """Explain a result."""
        controller, session = self.collections.resume(token)
        return controller.explain(session, item_id(event))

    @report_errors()
    def compare(self, token: str | None, method: str, *values: Any) -> Any:
        """Show the results of another method beside the results."""
        comparison = None
        if token and method:
            controller, session = self.collections.resume(token)
            comparison = controller.compare(session, Settings(*values), method)
        return gr.update(value=comparison, visible=comparison is not None)

    @report_errors()
    def _open(self, token: str | None, view: Callable[..., Any], **options: Any) -> Any:
        """Show a folded view, from now on after each search: True, and its value if there is a session."""
        return True, view(*self.collections.resume(token), **options) if token else gr.skip()

    def open_heads(self, token: str | None) -> Any:
        """Show the attention heads."""
        return self._open(token, Controller.heads)

    def open_captions(self, token: str | None, strength: float) -> Any:
        """Show the captions."""
        return self._open(token, Controller.captions, strength=strength)

    @report_errors()
    def open_map(self, key: str) -> Any:
        """Show the map of the collection."""
        return self.collections.controller(key).views.map()

    @report_errors()
    def open_duplicates(self, key: str) -> Any:
        """Show the duplicates of the collection."""
        return self.collections.controller(key).views.duplicates()

    def discard(self, request: gr.Request, event: gr.EventData, key: str) -> Any:
        """Move duplicates to the trash, then as `follow_job`; refused as in `start_job`."""
        with report_errors():
            self._refuse_proxies(request)
            data = event_fields(event)
            self.collections.discard(key, data.get("key"), data.get("ids"))
        yield from self.follow_job()

    @report_errors()
    def steer_captions(self, token: str | None, captions_open: bool, strength: float) -> Any:
        """Caption again with another strength."""
        controller, session = self.collections.resume(token)
        return controller.captions(session, strength) if captions_open else gr.skip()

    def details(
        self,
        token: str | None,
        show_heatmaps: bool,
        heads_open: bool,
        captions_open: bool,
        compare_with: str,
        strength: float,
        *values: Any,
    ) -> Any:
        """Show what follows the results, one after the other: heat maps, heads, comparison, captions."""
        unchanged = gr.skip()
        yield (unchanged,) * 4  # Gradio empties what a generator that yields nothing would have changed
        if not token:
            return
        with report_errors():
            controller, session = self.collections.resume(token)
            if show_heatmaps:
                yield controller.heatmaps(session), unchanged, unchanged, unchanged
            if heads_open:
                yield unchanged, controller.heads(session), unchanged, unchanged
            if compare_with:
                yield unchanged, unchanged, self.compare(token, compare_with, *values), unchanged
            if captions_open:
                yield unchanged, unchanged, unchanged, controller.captions(session, strength)

    def start_job(self, request: gr.Request, source: str, encoder: str, tiles: bool) -> Any:
        """Add a collection, then as `follow_job`; refused for users who come through a proxy."""
        with report_errors():
            self._refuse_proxies(request)
            self.collections.start_job(source, encoder, tiles=tiles)
        yield from self.follow_job()

    def watch(self, request: gr.Request, key: str, on: bool) -> Any:
        """Keep a collection up to date, or stop that; refused as in `start_job`. Returns whether it is."""
        try:
            self._refuse_proxies(request)
            self.collections.watch(key, on)
        except FoirError as error:
            gr.Warning(html.escape(str(error), quote=False), title="That did not work")
        return self.collections.watches.watches(key)

    def _refuse_proxies(self, request: gr.Request) -> None:
        """Refuse users who come through a proxy, and so perhaps from elsewhere."""
        if came_through_proxy(request.headers):
            raise BadPrompt("Collections can be added only on localhost.")

    def follow_job(self) -> Any:
        """The choice of collections and the progress of the current job; opens its collection at the end."""
        job = self.collections.job
        yield gr.update(choices=self.collections.choices()), None
        if job is None or not (job.running or job.progress().error):
            return
        while job.running:
            yield gr.skip(), job.progress()
            time.sleep(POLL)
        if not job.succeeded:
            yield gr.skip(), job.progress()
            return
        gr.Info(html.escape(job.done_message, quote=False), duration=5)
        yield gr.update(choices=self.collections.choices(), value=job.key), None

    def stop_job(self) -> None:
        """Stop the current job."""
        if self.collections.can_add and self.collections.job is not None:
            self.collections.job.stop()
