"""What comes from the browser, checked, and what goes back; the only file of the core that knows Gradio."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from foir.errors import BadImage, FoirError
from foir.page.steps import UPLOAD_BYTES


def told(step: Callable[..., Any]) -> Callable[..., Any]:
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


def answered(ask: Callable[..., Any]) -> Callable[..., Any]:
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


def taken(file: str | None) -> bytes:
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
