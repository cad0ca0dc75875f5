"""The answer to the sample's opening query, kept beside its index: the page shows it while the model loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from foir.app.controller import Controller
from foir.app.sessions import PageUpdate
from foir.index import Index
from foir.index.format import MANIFEST

FILE = "opening.json"
_KEY = "COLLECTION"  # stands for the collection's key, which depends on where the index lies

Opening = Mapping[str, dict[str, Any] | None]  # values of "pointer" and "results"


def write_opening(folder: Path) -> None:
    """Search an index as the page does when it opens, in float32, and keep the answer in the index's folder."""
    from foir.search.searcher import Searcher

    index = Index.open(folder)
    controller = Controller(index, partial(Searcher.load, index, dtype="float32"), _KEY)
    answer = opening_of(controller.start(controller.capabilities.settings))
    text = json.dumps({"index": _digest(folder), **answer}, sort_keys=True, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def opening_of(update: PageUpdate) -> Opening:
    """What the page shows of an answer whose session does not exist: nothing that needs one is offered."""
    url = f"thumb/{update.session.collection}/{update.session.item_id}"
    pointer = {**update.pointer, "url": url, "token": "opening", "pending": True}
    return {"pointer": pointer, "results": {**update.results, "plain": True}}


def read_opening(folder: Path, key: str) -> Opening | None:
    """The kept answer of an index that ships with foir; None where there is none, or the index was built again."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8").replace(f"thumb/{_KEY}/", f"thumb/{key}/")
        kept = json.loads(text)
        return {name: kept[name] for name in ("pointer", "results")} if kept["index"] == _digest(folder) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _digest(folder: Path) -> str:
    return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["digest"])
