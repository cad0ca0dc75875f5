"""What the browser may ask of the page, and how it is answered; the only file of the core that knows Gradio."""

from __future__ import annotations

import html
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from foir.app.collections import Collections
from foir.app.controller import UPLOAD_BYTES
from foir.app.sessions import Settings, PageUpdate
from foir.errors import BadImage, BadPrompt, FoirError

LOOKS = 0.4  # seconds between looks at a collection that is on its way


def page_errors(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step; what foir refuses is told in its one sentence, and everything on the page stays as it was."""

    @wraps(step)
    def told(*args: Any, **kwargs: Any) -> Any:
        with _telling():
            return step(*args, **kwargs)

    @wraps(step)
    def told_in_parts(*args: Any, **kwargs: Any) -> Any:
        with _telling():
            yield from step(*args, **kwargs)

    return told_in_parts if inspect.isgeneratorfunction(step) else told


def api_errors(ask: Callable[..., Any]) -> Callable[..., Any]:
    """The same for programs, which show no markup."""

    @wraps(ask)
    def answered(*args: Any, **kwargs: Any) -> Any:
        with _telling(markup=False):
            return ask(*args, **kwargs)

    return answered


@contextmanager
def _telling(*, markup: bool = True) -> Iterator[None]:
    """Tell what foir refuses. A toast of the page shows markup, and a file's name may hold some."""
    try:
        yield
    except FoirError as error:
        sentence = html.escape(str(error), quote=False) if markup else str(error)
        raise gr.Error(sentence, title="That did not work", duration=8, print_exception=False) from error


def take_upload(file: str | None) -> bytes:
    """What was uploaded. Its file goes at once: whoever knew its name could fetch it."""
    if file is None:
        return b""
    path = Path(file)
    try:
        data = path.read_bytes() if path.stat().st_size <= UPLOAD_BYTES else None
        path.unlink()
    except OSError as error:  # somebody uploaded the very same picture in this moment
        raise BadImage("The upload got lost on its way: try again.") from error
    if data is None:
        raise BadImage(f"The upload is larger than {UPLOAD_BYTES // 1_000_000} MB.")
    return data


def chosen_id(event: gr.EventData) -> int:
    """The id of a picture."""
    value = (event._data or {}).get("id")
    if not isinstance(value, int):
        raise FoirError("That picture is not known here.")
    return value


def pressed(event: gr.EventData) -> tuple[Any, str]:
    """The number of a head and the token of the picture it was pressed on."""
    data = event._data or {}
    return data.get("head"), str(data.get("token"))


def marks(event: gr.EventData) -> tuple[dict[str, Any], str]:
    """The marks and the token of the picture they were drawn on."""
    data = event._data or {}
    marks = data.get("prompt")
    return marks if isinstance(marks, dict) else {}, str(data.get("token"))


class Handlers:
    """What each control of the page does. A visitor is known by a token (`now`), `chosen` are the controls' values."""

    def __init__(self, library: Collections) -> None:
        """Bind them to the collections."""
        self.library = library

    def _shown(self, outcome: PageUpdate, now: str | None) -> Any:
        """Session, pointer, results, and the words: those that were searched for and do not count any more go."""
        try:
            before = self.library.sessions.get(now).texts.get("text")
        except FoirError:
            before = None
        words = "" if before and "text" not in outcome.session.texts else gr.skip()
        return self.library.sessions.put(outcome.session, now), outcome.pointer, outcome.results, words

    @page_errors
    def enter(self, collection: str, now: str | None) -> Any:
        """Look in a collection, with the controls as it begins: session, pointer, results."""
        page = self.library.controller(collection)
        return self._shown(page.start(page.capabilities.settings), now)

    @page_errors
    def use(self, file: str | None, collection: str, now: str | None, *chosen: Any) -> Any:
        """Open a visitor's own picture."""
        return self._shown(self.library.controller(collection).upload(take_upload(file), Settings(*chosen)), now)

    @page_errors
    def choose(self, event: gr.EventData, collection: str, now: str | None, *chosen: Any) -> Any:
        """Open a picture of the collection."""
        try:
            page, _ = self.library.resume(now)  # the results that were pressed are of this one
        except FoirError:
            page = self.library.controller(collection)
        return self._shown(page.choose(chosen_id(event), Settings(*chosen)), now)

    @page_errors
    def point(self, event: gr.EventData, now: str | None, *chosen: Any) -> Any:
        """Search for what was marked."""
        page, session = self.library.resume(now)
        return self._shown(page.point(session, *marks(event), Settings(*chosen)), now)

    @page_errors
    def refine(self, event: gr.EventData, now: str | None, *chosen: Any) -> Any:
        """Search again after results were judged."""
        page, session = self.library.resume(now)
        return self._shown(page.refine(session, event._data or {}, Settings(*chosen)), now)

    @page_errors
    def again(self, now: str | None, *chosen: Any) -> Any:
        """Search again with other settings."""
        page, session = self.library.resume(now)
        return self._shown(page.search(session, Settings(*chosen)), now)

    @page_errors
    def say(self, now: str | None, *chosen: Any) -> Any:
        """Search for words."""
        page, session = self.library.resume(now)
        return self._shown(page.search_text(session, Settings(*chosen)), now)

    @page_errors
    def force(self, event: gr.EventData, now: str | None, *chosen: Any) -> Any:
        """Switch a head."""
        page, session = self.library.resume(now)
        return self._shown(page.switch_head(session, *pressed(event), Settings(*chosen)), now)

    @page_errors
    def why(self, event: gr.EventData, now: str | None) -> Any:
        """Why one of the results is one."""
        page, session = self.library.resume(now)
        return page.explain(session, chosen_id(event))

    @page_errors
    def compare(self, now: str | None, other: str, *chosen: Any) -> Any:
        """Another way of looking, beside."""
        beside = None
        if now and other:
            page, session = self.library.resume(now)
            beside = page.compare(session, Settings(*chosen), other)
        return gr.update(value=beside, visible=beside is not None)

    @page_errors
    def unfold(self, now: str | None) -> Any:
        """What the heads see, from now on."""
        if not now:
            return True, gr.skip()
        page, session = self.library.resume(now)
        return True, page.heads(session)

    @page_errors
    def chart(self, collection: str) -> Any:
        """The map of the collection."""
        return self.library.controller(collection).views.map()

    @page_errors
    def lean(self, now: str | None, read: bool, far: float) -> Any:
        """The sentences, leaning further or less."""
        page, session = self.library.resume(now)
        return page.captions(session, far) if read else gr.skip()

    @page_errors
    def details(
        self, now: str | None, where: bool, seen: bool, read: bool, other: str, lean: float, *chosen: Any
    ) -> Any:
        """What is shown a moment after the results, part by part: heat maps, heads, the comparison, sentences.

        Heads and sentences are made where they are unfolded (`seen`, `read`).
        """
        same = gr.skip()
        if now is None:
            return
        page, session = self.library.resume(now)
        if where:
            yield page.heatmaps(session), same, same, same
        if seen:
            yield same, page.heads(session), same, same
        if other:
            yield same, same, self.compare(now, other, *chosen), same
        if read:
            yield same, same, same, page.captions(session, lean)

    @page_errors
    def tell(self, now: str | None, lean: float) -> Any:
        """The sentences, from now on."""
        if not now:
            return True, gr.skip()
        page, session = self.library.resume(now)
        return True, page.captions(session, lean)

    @page_errors
    def add(self, request: gr.Request, said: str, encoder: str, small: bool) -> Any:
        """Set out for another collection, then as `follow`; not for who comes through a proxy."""
        if any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in request.headers):
            raise BadPrompt("Collections are added on the machine that serves the page.")
        self.library.start_job(said, encoder, small=small)
        yield from self.follow()

    @page_errors
    def follow(self) -> Any:
        """The collections, and how far the one is that is on its way; it is looked in as soon as it is there."""
        errand = self.library.job
        yield gr.update(choices=self.library.choices()), None
        if errand is None or not (errand.running or errand.progress().error):
            return
        while errand.running:
            yield gr.skip(), errand.progress()
            time.sleep(LOOKS)
        if not errand.succeeded:
            yield gr.skip(), errand.progress()
            return
        gr.Info(html.escape(f"{errand.title} is ready: its pictures are looked in now.", quote=False), duration=5)
        yield gr.update(choices=self.library.choices(), value=errand.key), None

    def stop(self) -> None:
        """Give up the collection that is on its way."""
        if self.library.can_add and self.library.job is not None:
            self.library.job.stop()
