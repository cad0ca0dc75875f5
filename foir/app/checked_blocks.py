"""The page's `gr.Blocks`: values that do not fit their controls are refused before a handler sees them."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import gradio as gr
from starlette.exceptions import HTTPException

UNFIT = "The page sent values that do not fit its controls: reload it."


class _Events(dict[int, Any]):
    def __missing__(self, number: int) -> Any:
        raise HTTPException(404, "The page has no such event: reload it.")


class CheckedBlocks(gr.Blocks):
    """Refuses what a stranger sends in place of the values of controls, in one sentence and without a traceback.

    Gradio checks values while it preprocesses them. Each control raises errors of its own, which Gradio prints.
    """

    def __exit__(self, *args: Any) -> None:
        """End the layout; from now on events are looked up by the numbers that a stranger sends."""
        super().__exit__(*args)
        self.default_config.fns = _Events(self.default_config.fns)

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run an event; its data is a mapping, none of which names a file, or a number of a control of Gradio's."""
        event = kwargs.get("event_data")
        data = None if event is None else event._data
        if not isinstance(data, Mapping | int | float | NoneType) or (isinstance(data, Mapping) and "path" in data):
            raise gr.Error(UNFIT, print_exception=False)
        return await super().process_api(*args, **kwargs)

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Check the values, and turn them into arguments of a handler."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # a control raises nearly anything on a value of another type
            raise gr.Error(UNFIT, print_exception=False) from error
